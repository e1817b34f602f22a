//! Every target on its seeds and on seeded mutations of them. `NUNCIO_FUZZ_ROUNDS` makes it longer, `NUNCIO_FUZZ_SEED`
//! another run.

use nuncio_fuzz::{TARGETS, driver, target};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable} is no number: {v}")))
}

fn run(name: &str, rounds: u64) {
    // `NUNCIO_FUZZ_ROUNDS` is a multiple of what each target does in a few seconds.
    let rounds = rounds * number("NUNCIO_FUZZ_ROUNDS", 1);
    driver::bounded(target(name), rounds as usize, number("NUNCIO_FUZZ_SEED", 0x6e75_6e63_696f));
}

macro_rules! tests {
    ($($name:ident: $rounds:literal,)*) => {
        $(#[test] fn $name() { run(stringify!($name), $rounds) })*

        #[test]
        fn all_targets_run() {
            let here = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|t| here.contains(&t.name)));
        }
    };
}

tests! {
    h1_request: 200_000,
    h1_response: 200_000,
    hpack: 200_000,
    h2_server: 100_000,
    h2_client: 100_000,
    config: 5_000,
    format: 150_000,
    regex: 20_000,
}

/// What the driver is for.
#[test]
fn a_panic_is_found_and_its_input_kept() {
    let broken = nuncio_fuzz::Target {
        name: "broken",
        run: |data| assert!(!data.contains(&b'!'), "found"),
        seeds: || vec![b"abc".to_vec()],
        pieces: &[b"!"],
    };
    let caught = std::panic::catch_unwind(|| driver::bounded(&broken, 1_000, 1));
    assert!(caught.is_err());
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts/broken");
    let kept = std::fs::read_dir(&folder)
        .expect("the folder was made")
        .flatten()
        .next()
        .expect("one input was kept");
    assert!(std::fs::read(kept.path()).expect("it can be read").contains(&b'!'));
    std::fs::remove_dir_all(folder).expect("it can be removed");
}
