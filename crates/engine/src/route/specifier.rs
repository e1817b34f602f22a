//! Clusters that a plug-in chooses (`RouteAction.cluster_specifier_plugin`, also inline): by a match tree.

use super::tree;
use crate::proto;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::router::cluster_specifiers::matcher::v3::{
    ClusterAction, MatcherClusterSpecifier,
};
use nuncio_api::extensions::unregistered;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::info::StreamShared;
use nuncio_core::match_input::{Input, Source};
use nuncio_core::match_tree::{Kind, Tree, Value};
use nuncio_wire::RequestHead;
use prost::Name;
use std::collections::HashMap;
use std::sync::Arc;

/// What is read of plug-ins that choose clusters.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.route.v3.ClusterSpecifierPlugin", &["extension", "is_optional"]),
    Covered::new(
        "envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier",
        &["cluster_matcher"],
    ),
    Covered::new("envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction", &["cluster"]),
];

/// The plug-ins of a route configuration, by name.
#[derive(Default)]
pub struct Specifiers(HashMap<String, Arc<Specifier>>);

/// A compiled plug-in.
#[derive(Default)]
pub struct Specifier(Option<Tree<Clusters>>);

/// Trees whose leaves are names of clusters.
struct Clusters;

impl Kind for Clusters {
    type Input = Input;
    type Action = String;
    type Data<'d> = Source<'d>;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        tree::input(c)
    }
    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<String> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        if ty != ClusterAction::full_name() {
            return Err(unregistered(&c.name, ty).into());
        }
        let any = prost_types::Any { type_url: any.type_url.clone(), value: any.value.to_vec() };
        Ok(proto::unpack::<ClusterAction>(&any)?.cluster)
    }
    fn value<'a>(input: &Input, from: &'a Source<'_>) -> Value<'a> {
        input.value(from)
    }
}

impl Specifiers {
    /// Compiles the plug-ins of a route configuration. Of those with the same name the first one counts, as in Envoy.
    ///
    /// # Errors
    /// One is refused.
    pub fn new(all: &[pb::ClusterSpecifierPlugin]) -> BuildResult<Specifiers> {
        let mut by_name = HashMap::new();
        for p in all {
            let name = p.extension.as_ref().map(|e| e.name.clone()).unwrap_or_default();
            let built = Specifier::new(p)?.unwrap_or_default();
            by_name.entry(name).or_insert(built);
        }
        Ok(Specifiers(by_name))
    }
    /// The plug-in of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> BuildResult<Arc<Specifier>> {
        self.0.get(name).cloned().ok_or_else(|| {
            BuildError(format!("Unknown cluster specifier plugin name: {name} is used in the route"))
        })
    }
}

impl Specifier {
    /// Compiles a plug-in; none for an optional one that does not exist.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(p: &pb::ClusterSpecifierPlugin) -> BuildResult<Option<Arc<Specifier>>> {
        let extension = p.extension.clone().unwrap_or_default();
        let any = extension.typed_config.unwrap_or_default();
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        if ty != MatcherClusterSpecifier::full_name() {
            let e = unregistered(&extension.name, ty);
            return match p.is_optional && e.starts_with("Didn't find") {
                true => Ok(None),
                false => Err(e.into()),
            };
        }
        let c: MatcherClusterSpecifier = proto::unpack(&any)?;
        let tree = c.cluster_matcher.as_ref().ok_or("field: \"cluster_matcher\", reason: is required")?;
        Ok(Some(Arc::new(Specifier(Some(Tree::new(tree, &Clusters)?)))))
    }
    /// The cluster of a request; empty when nothing matches.
    pub fn cluster(&self, head: &RequestHead, sx: &StreamShared) -> &str {
        let found = self.0.as_ref().map(|t| t.find(&Source { request: head, response: None, sx }));
        found.and_then(Result::ok).flatten().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(is_optional: bool) -> pb::ClusterSpecifierPlugin {
        let extension = nuncio_api::envoy::config::core::v3::TypedExtensionConfig {
            name: "p".into(),
            typed_config: Some(prost_types::Any {
                type_url: "type.googleapis.com/a.B".into(),
                value: vec![],
            }),
        };
        pb::ClusterSpecifierPlugin { extension: Some(extension), is_optional }
    }

    #[test]
    fn a_plugin_that_does_not_exist_may_be_optional() {
        let why = Specifiers::new(&[plugin(false)]).err().expect("refused");
        assert!(why.0.starts_with("Didn't find a registered implementation for 'p'"), "{}", why.0);
        let all = Specifiers::new(&[plugin(true)]).expect("left out");
        assert!(all.get("p").is_ok());
        assert_eq!(
            all.get("q").err().expect("unknown").0,
            "Unknown cluster specifier plugin name: q is used in the route"
        );
    }
}
