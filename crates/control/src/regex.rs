//! Expressions that operators give: RE2's syntax, searched anywhere in a name.

use nuncio_core::matchers::re2;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Search(regex::Regex);

/// The size of a compiled expression, in bytes, that is still taken.
const SIZE_LIMIT: usize = 4 << 20;

impl Search {
    /// Compiles an expression that is looked for anywhere in a name.
    ///
    /// # Errors
    /// RE2's text about what is wrong.
    pub fn new(expression: &str) -> Result<Search, String> {
        Search::compile(&re2::translate(expression)?)
    }
    /// Compiles an expression that the whole name must match.
    ///
    /// # Errors
    /// RE2's text about what is wrong.
    pub fn whole(expression: &str) -> Result<Search, String> {
        Search::compile(&format!("^(?:{})$", re2::translate(expression)?))
    }
    fn compile(translated: &str) -> Result<Search, String> {
        let built = regex::RegexBuilder::new(translated).size_limit(SIZE_LIMIT).build();
        built.map(Search).map_err(|_| format!("pattern too large - compile failed: {translated}"))
    }
    /// Whether the expression is found in the name.
    pub fn found_in(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searched_or_whole() {
        assert!(Search::new("b.d").expect("a valid expression").found_in("abcde"));
        assert!(!Search::whole("b.d").expect("a valid expression").found_in("abcde"));
        assert!(Search::whole("a|abcde").expect("a valid expression").found_in("abcde"));
        assert_eq!(Search::new("[").unwrap_err(), "missing ]: [");
    }
}
