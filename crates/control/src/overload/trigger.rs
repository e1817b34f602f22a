//! From the pressure on a resource to how far an action is taken.

use nuncio_api::envoy::config::overload::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use pb::trigger::TriggerOneof;

/// Triggers of one action; the strongest counts.
#[derive(Debug)]
pub struct Triggers(Vec<Trigger>);

#[derive(Debug)]
struct Trigger {
    resource: String,
    kind: Kind,
    state: f64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// All or nothing, from this pressure on.
    Threshold(f64),
    /// Nothing up to the first, everything from the second.
    Scaled(f64, f64),
}

impl Kind {
    fn state(self, pressure: f64) -> f64 {
        match self {
            Kind::Threshold(at) => f64::from(u8::from(pressure >= at)),
            Kind::Scaled(from, _) if pressure <= from => 0.0,
            Kind::Scaled(_, to) if pressure >= to => 1.0,
            Kind::Scaled(from, to) => (pressure - from) / (to - from),
        }
    }
}

impl Triggers {
    /// Reads the triggers of `what`, as messages call it: `overload action X`.
    ///
    /// # Errors
    /// Envoy's words.
    pub fn new(all: &[pb::Trigger], what: &str, known: impl Fn(&str) -> bool) -> BuildResult<Triggers> {
        let mut triggers: Vec<Trigger> = vec![];
        for t in all {
            let kind = match &t.trigger_oneof {
                None => return Err(BuildError(format!("action not set for trigger {}", t.name))),
                Some(TriggerOneof::Threshold(t)) => Kind::Threshold(t.value),
                Some(TriggerOneof::Scaled(s)) if s.scaling_threshold >= s.saturation_threshold => {
                    return Err("scaling_threshold must be less than saturation_threshold".into());
                }
                Some(TriggerOneof::Scaled(s)) => Kind::Scaled(s.scaling_threshold, s.saturation_threshold),
            };
            if triggers.iter().any(|o| o.resource == t.name) {
                return Err(BuildError(format!("Duplicate trigger resource for {what}")));
            }
            triggers.push(Trigger { resource: t.name.clone(), kind, state: 0.0 });
        }
        for t in &triggers {
            if !known(&t.resource) {
                return Err(BuildError(format!("Unknown trigger resource {} for {what}", t.resource)));
            }
        }
        Ok(Triggers(triggers))
    }
    /// A resource has this pressure now; the trigger's own state, if that has changed.
    pub fn update(&mut self, resource: &str, pressure: f64) -> Option<f64> {
        let t = self.0.iter_mut().find(|t| t.resource == resource)?;
        let state = t.kind.state(pressure);
        let changed = state != t.state;
        t.state = state;
        changed.then_some(state)
    }
    /// The strongest.
    pub fn state(&self) -> f64 {
        self.0.iter().map(|t| t.state).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(name: &str, value: f64) -> pb::Trigger {
        let trigger_oneof = Some(TriggerOneof::Threshold(pb::ThresholdTrigger { value }));
        pb::Trigger { name: name.into(), trigger_oneof }
    }

    fn scaled(name: &str, scaling_threshold: f64, saturation_threshold: f64) -> pb::Trigger {
        let s = pb::ScaledTrigger { scaling_threshold, saturation_threshold };
        pb::Trigger { name: name.into(), trigger_oneof: Some(TriggerOneof::Scaled(s)) }
    }

    #[test]
    fn the_strongest_counts() {
        let all = [threshold("a", 0.9), scaled("b", 0.5, 0.7)];
        let mut t = Triggers::new(&all, "x", |_| true).expect("both are good");
        assert_eq!((t.update("b", 0.5), t.update("a", 0.89), t.state()), (None, None, 0.0));
        let half = t.update("b", 0.6).expect("it has changed");
        assert!((0.49..0.51).contains(&half) && t.state() == half);
        assert_eq!((t.update("a", 0.9), t.update("a", 0.95), t.state()), (Some(1.0), None, 1.0));
        assert_eq!((t.update("a", 0.1), t.update("b", 1.0), t.state()), (Some(0.0), Some(1.0), 1.0));
        assert_eq!(t.update("c", 1.0), None);
    }

    #[test]
    fn refused_in_envoys_words() {
        let words = |all: &[pb::Trigger]| {
            Triggers::new(all, "overload action x", |r| r == "a").expect_err("refused").0
        };
        assert_eq!(
            words(&[pb::Trigger { name: "a".into(), ..Default::default() }]),
            "action not set for trigger a"
        );
        assert_eq!(
            words(&[scaled("a", 0.5, 0.5)]),
            "scaling_threshold must be less than saturation_threshold"
        );
        let twice = [threshold("a", 0.9), threshold("a", 0.8)];
        assert_eq!(words(&twice), "Duplicate trigger resource for overload action x");
        assert_eq!(words(&[threshold("b", 0.9)]), "Unknown trigger resource b for overload action x");
    }
}
