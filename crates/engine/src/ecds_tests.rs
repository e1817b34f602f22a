use super::*;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_core::discovery::Discovery;
use nuncio_core::filter::{NodeInfo, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::Store;
use std::path::Path;

const URL: &str = "type.googleapis.com/google.protobuf.BytesValue";

/// Brings what a test says.
#[derive(Default)]
struct Fake(RefCell<Vec<Weak<dyn Subscriber>>>);

impl Discovery for Fake {
    fn check(&self, _: &ConfigSource) -> BuildResult<()> {
        Ok(())
    }
    fn subscribe(&self, wish: Subscribe<'_>) -> Subscription {
        self.0.borrow_mut().push(wish.subscriber);
        Subscription::new(())
    }
    fn follow(&self, _: &Path, _: Rc<dyn Fn()>) -> Subscription {
        Subscription::new(())
    }
}

struct Server(Rc<Fake>);

impl ServerCx for Server {
    fn has_cluster(&self, _: &str) -> bool {
        false
    }
    fn runtime(&self) -> Arc<Runtime> {
        Arc::default()
    }
    fn state(&self) -> Arc<ServerState> {
        Arc::default()
    }
    fn discovery(&self) -> Option<Rc<dyn Discovery>> {
        Some(self.0.clone())
    }
}

struct Bench {
    fake: Rc<Fake>,
    server: Server,
    store: Store,
    init: Init,
}

impl Bench {
    fn new() -> Bench {
        let fake = Rc::<Fake>::default();
        Bench { server: Server(fake.clone()), fake, store: Store::new(), init: Init::default() }
    }
    fn with<T>(&self, f: impl FnOnce(&BuildCx<'_>) -> T) -> T {
        f(&BuildCx {
            registry: &Registry::default(),
            scope: &self.store.root(),
            name: "",
            node: &NodeInfo::default(),
            server: &self.server,
            init: &self.init,
            validate_only: false,
        })
    }
    /// A filter is its configuration's bytes; one that says `bad` cannot be built.
    fn discover(&self, c: &ExtensionConfigSource) -> BuildResult<Arc<Slot<Vec<u8>>>> {
        let build = |any: &Any, _: &BuildCx<'_>| match &any.value[..] {
            b"bad" => Err("bad: it is".into()),
            good => Ok(good.to_vec()),
        };
        self.with(|cx| discover("test_filter", "f", c, cx, build))
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
        let subscriber = self.fake.0.borrow().last().and_then(Weak::upgrade).expect("somebody asked");
        let u = Update { resources, removed, version: "1" };
        self.with(|cx| subscriber.update(&u, cx)).map_err(|e| e.0)
    }
    fn stat(&self, name: &str) -> u64 {
        let scope = self.store.scope("extension_config_discovery.test_filter.f");
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
    let b = Bench::new();
    let slot = b.discover(&source(None)).expect("it is waited for");
    assert_eq!((now(&slot), b.init.unready().len()), (None, 1));
    b.hears(b"one", URL).expect("taken");
    assert_eq!((now(&slot).as_deref(), b.init.is_ready()), (Some("one"), true));
    assert_eq!(b.hears(b"bad", URL), Err("bad: it is".to_owned()));
    let other = b.hears(b"x", "type.googleapis.com/google.protobuf.Empty").expect_err("of another type");
    assert_eq!(
        other,
        "Error: filter config has type URL google.protobuf.Empty but expect google.protobuf.BytesValue."
    );
    assert_eq!((now(&slot).as_deref(), b.stat("reload")), (Some("one"), 1));
    // Whoever comes later has it at once; both follow.
    let second = b.discover(&source(None)).expect("known");
    assert_eq!((now(&second).as_deref(), b.fake.0.borrow().len()), (Some("one"), 1));
    b.hears(b"two", URL).expect("taken");
    assert_eq!((now(&slot).as_deref(), now(&second).as_deref()), (Some("two"), Some("two")));
    assert_eq!(Providers::here().list().len(), 1);
    b.update(&[], Removed::Named(&["f".to_owned()])).expect("taken");
    assert_eq!((now(&slot), now(&second), b.stat("reload")), (None, None, 3));
    drop((slot, second));
    assert!(b.fake.0.borrow()[0].upgrade().is_none(), "nobody needs the subscription any more");
}

#[test]
fn a_default_holds_until_something_comes() {
    let b = Bench::new();
    let slot = b.discover(&source(Some(b"mine"))).expect("a default");
    assert_eq!((now(&slot).as_deref(), b.init.is_ready()), (Some("mine"), false));
    let subscriber = b.fake.0.borrow()[0].upgrade().expect("somebody asked");
    subscriber.give_up();
    assert_eq!((b.init.is_ready(), b.stat("fail")), (true, 1));
    b.hears(b"theirs", URL).expect("taken");
    assert_eq!(now(&slot).as_deref(), Some("theirs"));
    b.update(&[], Removed::Named(&["f".to_owned()])).expect("taken");
    assert_eq!(now(&slot).as_deref(), Some("mine"));
    drop((slot, subscriber));
    let c = ExtensionConfigSource { apply_default_config_without_warming: true, ..source(Some(b"mine")) };
    let slot = b.discover(&c).expect("a default");
    assert_eq!((now(&slot).as_deref(), b.init.is_ready()), (Some("mine"), true));
}

#[test]
fn refusals() {
    let b = Bench::new();
    let refused = |c: ExtensionConfigSource| b.discover(&c).err().map(|e| e.0).unwrap_or_default();
    assert_eq!(refused(source(Some(b"bad"))), "bad: it is");
    let c = ExtensionConfigSource { apply_default_config_without_warming: true, ..source(None) };
    assert_eq!(refused(c), "Error: filter config f applied without warming but has no default config.");
    let c = ExtensionConfigSource { type_urls: vec!["type.googleapis.com/no.Such".into()], ..source(None) };
    assert_eq!(refused(c), "Error: no factory found for a required type URL type.googleapis.com/no.Such.");
}
