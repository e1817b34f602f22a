use super::*;
use crate::testing::Main;
use nuncio_api::envoy::config::core::v3::ConfigSource;

const URL: &str = "type.googleapis.com/google.protobuf.BytesValue";

#[derive(Default)]
struct Bench(Main);

impl Bench {
    /// A filter is its configuration's bytes; one that says `bad` cannot be built.
    fn discover(&self, c: &ExtensionConfigSource) -> BuildResult<Arc<Slot<Vec<u8>>>> {
        let build = |any: &Any, _: &BuildCx<'_>| match &any.value[..] {
            b"bad" => Err("bad: it is".into()),
            good => Ok(good.to_vec()),
        };
        self.0.with(|cx| discover("test_filter", "f", c, cx, build))
    }
    fn hears(&self, value: &[u8], url: &str) -> Result<(), String> {
        let any = Any { type_url: url.into(), value: value.to_vec() };
        let c = TypedExtensionConfig { name: "f".into(), typed_config: Some(any) };
        let r = Resource {
            name: "f".into(),
            version: "1".into(),
            type_url: String::new(),
            bytes: c.encode_to_vec().into(),
        };
        self.update(&[r], Removed::Named(&[]))
    }
    fn update(&self, resources: &[Resource], removed: Removed<'_>) -> Result<(), String> {
        self.0.bring(&self.0.last_wish(), resources, removed)
    }
    fn stat(&self, name: &str) -> u64 {
        let scope = self.0.store.scope("extension_config_discovery.test_filter.f");
        let s = EcdsStats::new(&scope);
        match name {
            "reload" => s.config_reload().value(),
            _ => s.config_fail().value(),
        }
    }
}

fn source(default: Option<&[u8]>) -> ExtensionConfigSource {
    ExtensionConfigSource {
        config_source: Some(ConfigSource::default().into()),
        default_config: default.map(|value| Any { type_url: URL.into(), value: value.to_vec() }),
        type_urls: vec![URL.into()],
        ..Default::default()
    }
}

/// What main has put to use.
fn now(slot: &Slot<Vec<u8>>) -> Option<String> {
    slot.now().map(|v| String::from_utf8_lossy(&v).into_owned())
}

#[test]
fn a_filter_is_waited_for_replaced_and_taken_back() {
    let b = Bench::default();
    let slot = b.discover(&source(None)).expect("it is waited for");
    assert_eq!((now(&slot), b.0.init.unready().len()), (None, 1));
    b.hears(b"one", URL).expect("taken");
    assert_eq!((now(&slot).as_deref(), b.0.init.is_ready()), (Some("one"), true));
    assert_eq!(b.hears(b"bad", URL), Err("bad: it is".to_owned()));
    let other = b.hears(b"x", "type.googleapis.com/google.protobuf.Empty").expect_err("of another type");
    assert_eq!(
        other,
        "Error: filter config has type URL google.protobuf.Empty but expect google.protobuf.BytesValue."
    );
    assert_eq!((now(&slot).as_deref(), b.stat("reload")), (Some("one"), 1));
    // Whoever comes later has it at once; both follow.
    let second = b.discover(&source(None)).expect("known");
    assert_eq!((now(&second).as_deref(), b.0.asked.wishes.borrow().len()), (Some("one"), 1));
    b.hears(b"two", URL).expect("taken");
    assert_eq!((now(&slot).as_deref(), now(&second).as_deref()), (Some("two"), Some("two")));
    assert_eq!(Providers::here().list().len(), 1);
    b.update(&[], Removed::Named(&["f".to_owned()])).expect("taken");
    assert_eq!((now(&slot), now(&second), b.stat("reload")), (None, None, 3));
    drop((slot, second));
    assert!(!b.0.last_wish().lives(), "nobody needs the subscription any more");
}

#[test]
fn a_default_holds_until_something_comes() {
    let b = Bench::default();
    let slot = b.discover(&source(Some(b"mine"))).expect("a default");
    assert_eq!((now(&slot).as_deref(), b.0.init.is_ready()), (Some("mine"), false));
    let subscriber = b.0.last_wish().subscriber();
    subscriber.give_up();
    assert_eq!((b.0.init.is_ready(), b.stat("fail")), (true, 1));
    b.hears(b"theirs", URL).expect("taken");
    assert_eq!(now(&slot).as_deref(), Some("theirs"));
    b.update(&[], Removed::Named(&["f".to_owned()])).expect("taken");
    assert_eq!(now(&slot).as_deref(), Some("mine"));
    drop((slot, subscriber));
    let c = ExtensionConfigSource { apply_default_config_without_warming: true, ..source(Some(b"mine")) };
    let slot = b.discover(&c).expect("a default");
    assert_eq!((now(&slot).as_deref(), b.0.init.is_ready()), (Some("mine"), true));
}

#[test]
fn refusals() {
    let b = Bench::default();
    let refused = |c: ExtensionConfigSource| b.discover(&c).err().map(|e| e.0).unwrap_or_default();
    assert_eq!(refused(source(Some(b"bad"))), "bad: it is");
    let c = ExtensionConfigSource { apply_default_config_without_warming: true, ..source(None) };
    assert_eq!(refused(c), "Error: filter config f applied without warming but has no default config.");
    let c = ExtensionConfigSource { type_urls: vec!["type.googleapis.com/no.Such".into()], ..source(None) };
    assert_eq!(refused(c), "Error: no factory found for a required type URL type.googleapis.com/no.Such.");
}
