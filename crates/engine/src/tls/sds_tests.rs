use super::*;
use crate::testing::Main;
use nuncio_api::envoy::config::core::v3::{ConfigSource, WatchedDirectory};
use nuncio_core::discovery::Resource;

/// A test's server.
#[derive(Default)]
struct Bench {
    main: Main,
    updates: Rc<Cell<u32>>,
}

impl Bench {
    /// The chain of a secret; one that says `bad` cannot be built.
    fn chain(&self, name: &str) -> Arc<Renewed<Vec<u8>>> {
        let wanted = wanted(name);
        let (mine, updates) = (wanted.clone(), self.updates.clone());
        let build = move || {
            let secret = SecretProviders::here().find(&mine).expect("it is there");
            let Some(Type::TlsCertificate(c)) = &secret.r#type else { return Err("of another kind".into()) };
            match c.certificate_chain.as_ref().and_then(|d| d.specifier.clone()) {
                Some(Specifier::InlineBytes(b)) if &b[..] != b"bad" => Ok(b.to_vec()),
                _ => Err("not to be built".into()),
            }
        };
        let counted = move || updates.set(updates.get() + 1);
        self.main.with(|cx| Renewed::new(&[wanted], cx, build, counted)).expect("it is waited for")
    }
    fn send(&self, secret: &pb::Secret) -> Result<(), String> {
        let resource = Resource {
            name: secret.name.clone(),
            version: "1".into(),
            type_url: String::new(),
            bytes: secret.encode_to_vec().into(),
        };
        self.main.bring(&self.main.last_wish(), &[resource], Removed::Others)
    }
}

fn wanted(name: &str) -> pb::SdsSecretConfig {
    pb::SdsSecretConfig { name: name.into(), sds_config: Some(ConfigSource::default().into()) }
}

fn secret(name: &str, chain: Specifier, watched: Option<&str>) -> pb::Secret {
    let chain = DataSource { specifier: Some(chain), ..Default::default() };
    let c = pb::TlsCertificate {
        certificate_chain: Some(chain),
        watched_directory: watched.map(|path| WatchedDirectory { path: path.into(), ..Default::default() }),
        ..Default::default()
    };
    pb::Secret { name: name.into(), r#type: Some(Type::TlsCertificate(Box::new(c))) }
}
fn inline(text: &'static str) -> Specifier {
    Specifier::InlineBytes(text.as_bytes().into())
}

#[test]
fn what_is_built_waits_changes_and_keeps_what_was_good() {
    let b = Bench::default();
    let (one, two) = (b.chain("s"), b.chain("s"));
    assert_eq!(b.main.asked.wishes.borrow().len(), 1, "they share a subscription");
    assert!(one.get().is_none());
    assert_eq!(b.main.init.unready(), ["shared target SdsApi s"; 2]);
    assert_eq!(SecretProviders::here().list()[0].secret, None);

    b.send(&secret("s", inline("first"), None)).expect("a good one");
    assert!(b.main.init.is_ready());
    assert_eq!((one.get(), two.get()), (Some(b"first".to_vec().into()), Some(b"first".to_vec().into())));
    assert_eq!(b.updates.get(), 2);
    b.send(&secret("s", inline("first"), None)).expect("the same once more");
    assert_eq!(b.updates.get(), 2);

    assert_eq!(b.send(&secret("s", inline("bad"), None)), Err("not to be built".into()));
    let e = b.send(&secret("x", inline("second"), None)).expect_err("another name");
    assert_eq!(e, "Unexpected SDS secret (expecting s): x");
    assert_eq!(one.get(), Some(b"first".to_vec().into()));
    // Who comes later gets what is in use, not what was refused.
    assert_eq!(b.chain("s").get(), Some(b"first".to_vec().into()));
    assert_eq!(b.updates.get(), 3, "what is there already counts, too");

    drop((one, two));
    assert!(SecretProviders::here().list().is_empty(), "nobody needs it");
}

#[test]
fn nobody_waits_for_ever() {
    let b = Bench::default();
    let one = b.chain("late");
    let subscriber = b.main.last_wish().subscriber();
    subscriber.give_up();
    assert!(b.main.init.is_ready() && one.get().is_none());
    b.send(&secret("late", inline("now"), None)).expect("a good one");
    assert_eq!(one.get(), Some(b"now".to_vec().into()));
}

#[test]
fn files_are_read_again_when_something_is_moved_beside_them() {
    let b = Bench::default();
    let one = b.chain("files");
    let folder = std::env::temp_dir().join(format!("nuncio-sds-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("chain.pem");
    let write = |text: &str| std::fs::write(&file, text).expect("the file can be used");
    let name = || Specifier::Filename(file.display().to_string());
    let e = b.send(&secret("files", name(), None)).expect_err("no file yet");
    assert_eq!(e, format!("Invalid path: {}", file.display()));
    write("first");
    b.send(&secret("files", name(), None)).expect("a good one");
    let (followed, changed) = b.main.asked.followed.borrow()[0].clone();
    assert_eq!(followed, folder);
    let rotated = |text: &str| {
        write(text);
        changed();
        one.get().expect("it is there").to_vec()
    };
    assert_eq!(rotated("second"), b"second");
    assert_eq!(b.updates.get(), 2);
    assert_eq!(rotated("second"), b"second");
    assert_eq!(b.updates.get(), 2, "nothing has changed");
    assert_eq!(rotated("bad"), b"second", "what was good stays");
    let mut failed = 0;
    let mut all = b.main.store.snapshot();
    while all.step(10_000, |m| {
        if let stats::MetricValue::Counter { value, .. } = m.value
            && m.name == "sds.files.key_rotation_failed"
        {
            failed = value;
        }
    }) {}
    assert_eq!(failed, 1);
    b.send(&secret("files", name(), Some("/elsewhere"))).expect_err("still the bad file");
    write("third");
    b.send(&secret("files", name(), Some("/elsewhere"))).expect("a good one");
    assert_eq!(b.main.asked.followed.borrow().last().expect("one more").0, Path::new("/elsewhere"));
    std::fs::remove_dir_all(&folder).expect("the folder can be used");
}
