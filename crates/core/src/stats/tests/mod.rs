mod concurrency;
mod golden;
mod lifetime;
mod output;
mod scale;

use super::*;

pub(super) fn text(store: &Store, query: &str) -> String {
    Render::new(store, parse(query), Vec::new()).into_string()
}

pub(super) fn parse(query: &str) -> Query {
    let compile = |text: &str| -> Result<NameMatcher, String> {
        let text = text.to_owned();
        Ok(std::sync::Arc::new(move |name: &str| name.contains(&text)))
    };
    Query::parse(query, false, compile).expect("a good query")
}
