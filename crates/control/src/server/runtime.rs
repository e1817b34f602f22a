//! The runtime's layers: `layered_runtime` of the bootstrap, and the overrides of `/runtime_modify`.

use super::disk::Disk;
use nuncio_api::envoy::config::bootstrap::v3::{LayeredRuntime, runtime_layer::LayerSpecifier};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::log;
use nuncio_core::runtime::{Layer, Runtime, RuntimeValue, Snapshot};
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use prost_types::value::Kind;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

stats! {
    /// `runtime.`
    pub struct RuntimeStats {
        deprecated_feature_use: SharedCounter,
        load_error: SharedCounter,
        load_success: SharedCounter,
        override_dir_exists: SharedCounter,
        override_dir_not_exists: SharedCounter,
        admin_overrides_active: SetGauge,
        deprecated_feature_seen_since_process_start: SetGauge,
        num_keys: SetGauge,
        num_layers: SetGauge,
    }
}

/// Most keys that `/runtime_modify` may add, and the longest key and value.
const MOST_OVERRIDES: usize = 10_000;
const LONGEST: usize = 64 << 10;

/// The layers on main. Readers hold the [`Runtime`], which changes whole.
pub struct Layers {
    layers: RefCell<Vec<Layer>>,
    /// Which of them are read from files.
    disks: RefCell<Vec<Disk>>,
    runtime: Arc<Runtime>,
    stats: RuntimeStats,
    followers: RefCell<Vec<Follower>>,
}

type Follower = Box<dyn Fn(&Snapshot)>;

impl Layers {
    /// Reads `layered_runtime`. Without it there are no layers; with an empty one there is an admin layer without
    /// a name.
    ///
    /// # Errors
    /// Envoy's words for what is wrong.
    pub fn new(config: Option<&LayeredRuntime>, root: &Scope) -> BuildResult<Layers> {
        Layers::of(config, root, "")
    }
    /// As [`new`](Self::new), of a service cluster (`append_service_cluster`).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(config: Option<&LayeredRuntime>, root: &Scope, service_cluster: &str) -> BuildResult<Layers> {
        let mut layers = Vec::new();
        let mut disks = vec![];
        let mut names = BTreeSet::new();
        for l in config.into_iter().flat_map(|c| &c.layers) {
            if !names.insert(&l.name) {
                return Err(BuildError(format!("Duplicate layer name: {}", l.name)));
            }
            let mut layer = Layer { name: l.name.clone(), ..Default::default() };
            match &l.layer_specifier {
                Some(LayerSpecifier::StaticLayer(s)) => flatten("", s, &mut layer.values)?,
                Some(LayerSpecifier::AdminLayer(_)) => layer.admin = true,
                Some(LayerSpecifier::DiskLayer(d)) => {
                    disks.push(Disk::new(layers.len(), d, service_cluster));
                }
                // Empty until the control plane says what is in it.
                Some(LayerSpecifier::RtdsLayer(_)) | None => {}
            }
            layers.push(layer);
        }
        if layers.iter().filter(|l| l.admin).count() > 1 {
            let e = "Too many admin layers specified in LayeredRuntime, at most one may be specified";
            return Err(BuildError(e.to_owned()));
        }
        if config.is_some() && layers.is_empty() {
            layers.push(Layer { admin: true, ..Default::default() });
        }
        let stats = RuntimeStats::new(&root.scope("runtime"));
        warn_of_guards(&layers);
        let (layers, disks, followers) = (RefCell::new(layers), RefCell::new(disks), RefCell::default());
        let made = Layers { layers, disks, runtime: Arc::new(Runtime::new(vec![])), stats, followers };
        // Envoy loads twice while it starts: at first, and when no layer waits for a control plane any more.
        made.load();
        made.load();
        Ok(made)
    }
    /// What readers hold.
    pub fn current(&self) -> &Arc<Runtime> {
        &self.runtime
    }
    /// Calls `f` with every snapshot from the next one on.
    pub fn follow(&self, f: impl Fn(&Snapshot) + 'static) {
        self.followers.borrow_mut().push(Box::new(f));
    }
    /// Sets values in the admin layer; an empty value takes the override away.
    ///
    /// # Errors
    /// There is no admin layer, or too much would be kept.
    pub fn modify(&self, changes: Vec<(String, String)>) -> Result<(), String> {
        let worth = |(k, v): (String, String)| RuntimeValue::of_text(&v).map(|v| (k, v));
        {
            let mut layers = self.layers.borrow_mut();
            let admin = layers.iter_mut().find(|l| l.admin).ok_or("No admin layer specified")?;
            if changes.iter().any(|(k, v)| k.len() > LONGEST || v.len() > LONGEST)
                || admin.values.len() + changes.len() > MOST_OVERRIDES
            {
                return Err("Too many or too long runtime overrides".to_owned());
            }
            // All are read before the first one counts.
            let changes = changes.into_iter().map(worth).collect::<Result<Vec<_>, _>>()?;
            for (k, v) in changes {
                match v.text.is_empty() {
                    true => admin.values.remove(&k),
                    false => admin.values.insert(k, v),
                };
            }
            self.stats.admin_overrides_active().set(u64::from(!admin.values.is_empty()));
        }
        self.load();
        Ok(())
    }
    /// Replaces the values of a layer.
    ///
    /// # Errors
    /// A value is none; the layer stays as it is.
    pub fn set_layer(&self, name: &str, values: &prost_types::Struct) -> BuildResult<()> {
        let mut flat = BTreeMap::new();
        flatten("", values, &mut flat)?;
        if let Some(layer) = self.layers.borrow_mut().iter_mut().find(|l| l.name == name) {
            layer.values = flat;
        }
        self.load();
        Ok(())
    }
    /// What is replaced when files of layers change.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.disks.borrow().iter().map(|d| d.root.clone()).collect()
    }
    /// Reads the files of layers again.
    pub fn reload(&self) {
        self.load();
    }
    /// Reads what is on disk; true when all that is there could be read.
    fn read_disks(&self) -> bool {
        let mut all_read = true;
        for d in &mut *self.disks.borrow_mut() {
            let read = d.read().unwrap_or_else(|e| {
                let layers = self.layers.borrow();
                let name = layers.get(d.layer).map_or("", |l| &l.name);
                log!(Runtime, Warning, "error loading runtime values for layer {name} from disk: {e}");
                all_read = false;
                None
            });
            d.there = read.is_some();
            if let Some(layer) = self.layers.borrow_mut().get_mut(d.layer) {
                layer.values = read.unwrap_or_default();
            }
        }
        all_read
    }
    fn load(&self) {
        let all_read = self.read_disks();
        let disks = self.disks.borrow();
        let missing = |at: usize| disks.iter().any(|d| d.layer == at && !d.there);
        let layers = self.layers.borrow();
        let there = layers.iter().enumerate().filter(|(at, _)| !missing(*at)).map(|(_, l)| l.clone());
        let snapshot = Snapshot::new(there.collect());
        match all_read {
            true => self.stats.load_success().inc(),
            false => self.stats.load_error().inc(),
        }
        // Envoy means the second of two layers.
        match disks.iter().filter(|d| d.there).count() > 1 {
            true => self.stats.override_dir_exists().inc(),
            false => self.stats.override_dir_not_exists().inc(),
        }
        drop((layers, disks));
        self.stats.num_keys().set(snapshot.iter().count() as u64);
        self.stats.num_layers().set(snapshot.layers.len() as u64);
        self.followers.borrow().iter().for_each(|f| f(&snapshot));
        self.runtime.set(snapshot);
    }
}

/// Numbers among the names of guards; these are read.
const LIMITS: [&str; 4] = [
    "envoy.reloadable_features.max_request_headers_count",
    "envoy.reloadable_features.max_request_headers_size_kb",
    "envoy.reloadable_features.max_response_headers_count",
    "envoy.reloadable_features.max_response_headers_size_kb",
];

/// Envoy's guards bring back what a release has changed; here there is only the behaviour of the release.
fn warn_of_guards(layers: &[Layer]) {
    let guard =
        |k: &&String| k.starts_with("envoy.reloadable_features.") || k.starts_with("envoy.restart_features.");
    for key in layers.iter().flat_map(|l| l.values.keys()).filter(guard) {
        if !LIMITS.contains(&&**key) {
            log!(
                Runtime,
                Warning,
                "the runtime guard {key} has no effect: Envoy's default behaviour is kept"
            );
        }
    }
}

/// Most nesting of a static layer.
const DEPTH: usize = 64;

/// Turns `{a: {b: 1}}` into `a.b: 1`.
fn flatten(
    prefix: &str,
    s: &prost_types::Struct,
    out: &mut BTreeMap<String, RuntimeValue>,
) -> BuildResult<()> {
    for (name, value) in &s.fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match &value.kind {
            Some(Kind::StructValue(inner)) if !is_fraction(inner) => {
                if key.matches('.').count() >= DEPTH {
                    return Err(BuildError(format!("Invalid runtime entry value for {key}")));
                }
                flatten(&key, inner, out)?;
            }
            None | Some(Kind::NullValue(_) | Kind::ListValue(_)) => {
                return Err(BuildError(format!("Invalid runtime entry value for {key}")));
            }
            Some(_) => drop(out.insert(key, RuntimeValue::new(value))),
        }
    }
    Ok(())
}

/// A struct that is a value of its own.
fn is_fraction(s: &prost_types::Struct) -> bool {
    s.fields.is_empty() || s.fields.contains_key("numerator") || s.fields.contains_key("denominator")
}

/// The layers as the start-up log shows them, in YAML.
pub fn describe(config: Option<&LayeredRuntime>) -> String {
    let Some(config) = config else { return "{}".to_owned() };
    let mut out = "layers:".to_owned();
    for l in &config.layers {
        let kind = match &l.layer_specifier {
            Some(LayerSpecifier::StaticLayer(_)) => "static_layer",
            Some(LayerSpecifier::AdminLayer(_)) => "admin_layer",
            Some(LayerSpecifier::DiskLayer(_)) => "disk_layer",
            Some(LayerSpecifier::RtdsLayer(_)) => "rtds_layer",
            None => "{}",
        };
        out.push_str(&format!("\n  - name: {}\n    {kind}:", l.name));
        let mut values = BTreeMap::new();
        if let Some(LayerSpecifier::StaticLayer(s)) = &l.layer_specifier
            && flatten("", s, &mut values).is_ok()
        {
            values.iter().for_each(|(k, v)| out.push_str(&format!("\n      {k}: {}", v.text)));
        }
        if values.is_empty() {
            out.push_str("\n      {}");
        }
    }
    if config.layers.is_empty() {
        out.push_str("\n  - admin_layer:\n      {}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::load::{Format, UnknownFields, parse_message};
    use nuncio_core::stats::Store;

    fn layers(yaml: &str, store: &Store) -> Result<Layers, String> {
        let loaded =
            parse_message::<LayeredRuntime>(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse);
        Layers::new(Some(&loaded.map_err(|e| e.to_string())?.message), &store.root()).map_err(|e| e.0)
    }

    #[test]
    fn layers_of_the_bootstrap() {
        let store = Store::new();
        let yaml = "layers: [{name: s, static_layer: {a: {b: 1, c: true, d: 1.5, e: str}, f.g: 3}}, {name: adm, admin_layer: {}}]";
        let l = layers(yaml, &store).expect("valid layers");
        let s = l.current().snapshot();
        let all: Vec<_> = s.iter().map(|(k, v)| (k, &*v.text)).collect();
        assert_eq!(all, [("a.b", "1"), ("a.c", "true"), ("a.d", "1.5"), ("a.e", "str"), ("f.g", "3")]);
        assert_eq!(
            (l.stats.num_keys().value(), l.stats.num_layers().value(), l.stats.load_success().value()),
            (5, 2, 2)
        );

        l.modify(vec![("a.b".into(), "7".into()), ("x".into(), "y".into())]).expect("taken");
        let s = l.current().snapshot();
        let text = |s: &Snapshot, k: &str| s.get(k).map(|v| v.text.clone()).unwrap_or_default();
        assert_eq!((&*text(&s, "a.b"), &*text(&s, "x")), ("7", "y"));
        assert_eq!((l.stats.admin_overrides_active().value(), l.stats.num_keys().value()), (1, 6));
        let e = l.modify(vec![("y".into(), "1".into()), ("z".into(), "{a".into())]).unwrap_err();
        assert!(e.ends_with("end of map flow not found"), "{e}");
        assert!(l.current().snapshot().get("y").is_none(), "all or nothing");
        l.modify(vec![("a.b".into(), "".into()), ("x".into(), "".into())]).expect("taken");
        assert_eq!(text(&l.current().snapshot(), "a.b"), "1");
        assert_eq!(l.stats.admin_overrides_active().value(), 0);
    }

    #[test]
    fn a_fraction_is_one_value() {
        let yaml =
            "layers: [{name: s, static_layer: {f: {numerator: 5, denominator: TEN_THOUSAND}, e: {}, s: ''}}]";
        let s = layers(yaml, &Store::new()).expect("valid layers").current().snapshot();
        let f = s.get("f").and_then(|v| v.fraction).expect("a fraction");
        assert_eq!((f.numerator, f.denominator, s.iter().count()), (5, 10_000, 3));
    }

    #[test]
    fn a_layer_of_a_control_plane_is_replaced_as_a_whole() {
        let store = Store::new();
        let l = layers(
            "layers: [{name: s, static_layer: {a: 1, b: 1}}, {name: r, rtds_layer: {name: x}}]",
            &store,
        );
        let l = l.expect("valid layers");
        let number = |v: f64| prost_types::Value { kind: Some(Kind::NumberValue(v)) };
        let set = |key: &str| prost_types::Struct { fields: [(key.to_owned(), number(7.0))].into() };
        let now = || ["a", "b"].map(|k| l.current().snapshot().number(k, 0));
        l.set_layer("r", &set("a")).expect("values");
        assert_eq!(now(), [7, 1]);
        l.set_layer("r", &set("b")).expect("values");
        assert_eq!(now(), [1, 7]);
        let none = prost_types::Struct { fields: [("a".to_owned(), Default::default())].into() };
        assert_eq!(l.set_layer("r", &none).unwrap_err().0, "Invalid runtime entry value for a");
        assert_eq!(now(), [1, 7], "what is refused changes nothing");
        assert_eq!(l.stats.load_success().value(), 4);
    }

    #[test]
    fn layers_from_files_come_and_go() {
        let root = std::env::temp_dir().join(format!("nuncio-layers-{}", std::process::id()));
        let yaml = format!(
            "layers: [{{name: d, disk_layer: {{symlink_root: {0}}}}}, {{name: o, disk_layer: {{symlink_root: {0}, subdirectory: o}}}}]",
            root.display()
        );
        let l = layers(&yaml, &Store::new()).expect("valid layers");
        assert_eq!((l.stats.num_layers().value(), l.stats.load_success().value()), (0, 2));
        std::fs::create_dir_all(root.join("o")).expect("made");
        std::fs::write(root.join("a"), "7").expect("written");
        l.reload();
        let now = || (l.current().snapshot().number("a", 0), l.stats.num_layers().value());
        assert_eq!((now(), l.stats.override_dir_exists().value()), ((7, 2), 1));
        std::fs::write(root.join("b"), "{a").expect("written");
        l.reload();
        assert_eq!(
            (now(), l.stats.load_error().value()),
            ((0, 1), 1),
            "a layer that cannot be read is left out"
        );
        std::fs::remove_dir_all(&root).expect("removed");
        assert_eq!(l.roots(), [root.clone(), root]);
    }

    #[test]
    fn followers_are_told() {
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        let l = layers("{}", &Store::new()).expect("valid layers");
        let s = seen.clone();
        l.follow(move |snapshot| s.set(snapshot.number("a", 0)));
        l.modify(vec![("a".into(), "7".into())]).expect("taken");
        assert_eq!(seen.get(), 7);
    }

    #[test]
    fn no_layers_and_an_admin_layer_without_a_name() {
        let store = Store::new();
        let none = Layers::new(None, &store.root()).expect("valid layers");
        assert_eq!(none.modify(vec![("a".into(), "b".into())]), Err("No admin layer specified".into()));
        assert_eq!(layers("{}", &store).expect("valid layers").current().snapshot().layers.len(), 1);
    }

    #[test]
    fn what_is_refused() {
        let store = Store::new();
        for (yaml, text) in [
            ("layers: [{name: a, static_layer: {x: null}}]", "Invalid runtime entry value for x"),
            ("layers: [{name: a, static_layer: {x: {y: [1]}}}]", "Invalid runtime entry value for x.y"),
            ("layers: [{name: a, static_layer: {}}, {name: a, admin_layer: {}}]", "Duplicate layer name: a"),
            (
                "layers: [{name: a, admin_layer: {}}, {name: b, admin_layer: {}}]",
                "Too many admin layers specified in LayeredRuntime, at most one may be specified",
            ),
        ] {
            assert_eq!(layers(yaml, &store).err().as_deref(), Some(text));
        }
    }

    #[test]
    fn overrides_are_bounded() {
        let store = Store::new();
        let l = layers("{}", &store).expect("valid layers");
        assert!(l.modify(vec![("k".into(), "v".repeat(LONGEST + 1))]).is_err());
        assert!(l.modify((0..=MOST_OVERRIDES).map(|i| (i.to_string(), "v".into())).collect()).is_err());
    }
}
