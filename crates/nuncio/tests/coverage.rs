//! Nothing is accepted and ignored, not even within what is read.

use nuncio_control::server::Made;

#[test]
fn what_is_read_is_known_down_to_the_last_message() {
    let mut made = Made::new();
    nuncio_ext::register(&mut made.registry, &mut made.coverage);
    let holes: Vec<_> = made.coverage.holes().into_iter().map(|(f, m)| format!("{f} ({m})")).collect();
    assert!(holes.is_empty(), "set fields of these would be passed over:\n{}", holes.join("\n"));
}
