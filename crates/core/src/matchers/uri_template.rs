//! URI templates (`envoy.extensions.path.match.uri_template.v3`, and of rewriting): `/api/{version}/users/**`.
//!
//! A template becomes a regular expression, as in Envoy: `*` is one segment, `**` any number of them, and a variable in
//! braces captures what it covers. Literals stand for themselves, but a `*` in one repeats the character before it.

use super::{Regex, RegexSubstitution};
use crate::error::{BuildError, BuildResult};

const SEGMENT: &str = "[a-zA-Z0-9-._~%!$&'()+,;:@=*]+";
const SEGMENTS: &str = "[a-zA-Z0-9-._~%!$&'()+,;:@=*/]*";
const MOST_VARIABLES: usize = 5;
const LONGEST_NAME: usize = 16;

/// A compiled template.
#[derive(Clone, Debug)]
pub struct UriTemplate {
    source: Box<str>,
    pattern: Box<str>,
    regex: Regex,
    /// In the order of their groups.
    variables: Box<[Box<str>]>,
}

impl UriTemplate {
    /// Compiles.
    ///
    /// # Errors
    /// What is wrong with the template, in Envoy's words.
    pub fn new(template: &str) -> BuildResult<UriTemplate> {
        let mut p = Parser { pattern: String::new(), variables: vec![], after_text_glob: false };
        p.template(template)?;
        let pattern = p.pattern;
        Ok(UriTemplate {
            source: template.into(),
            regex: Regex::parse(&pattern)?,
            pattern: pattern.into(),
            variables: p.variables.into(),
        })
    }
    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
    /// The regular expression that it became.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
    /// Whether a path (without its query) matches, as a whole.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.regex.matches(path)
    }
    /// A rewriting of paths that match to `to`, in which variables stand for what they captured.
    ///
    /// # Errors
    /// `to` is not well-formed (`Err(false)`), or names a variable that the template does not have (`Err(true)`).
    pub fn rewriting(&self, to: &str) -> Result<RegexSubstitution, bool> {
        let mut substitution = String::new();
        let mut unknown = false;
        for part in rewrite_parts(to).ok_or(false)? {
            match part {
                Part::Literal(l) => substitution.push_str(l),
                Part::Variable(v) => match self.variables.iter().position(|n| **n == *v) {
                    Some(i) => substitution.push_str(&format!("\\{}", i + 1)),
                    None => unknown = true,
                },
            }
        }
        if unknown {
            return Err(true);
        }
        RegexSubstitution::parse(&format!("^(?:{})$", self.pattern), &substitution).map_err(|_| false)
    }
}

enum Part<'a> {
    Literal(&'a str),
    Variable(&'a str),
}

/// The parts of a rewrite pattern; `None` if it is none.
fn rewrite_parts(to: &str) -> Option<Vec<Part<'_>>> {
    if !to.starts_with('/') || to.contains("//") {
        return None;
    }
    let (mut parts, mut rest) = (vec![], to);
    while !rest.is_empty() {
        let (literal, after) = rest.split_once('{').map_or((rest, None), |(l, a)| (l, Some(a)));
        if !literal.is_empty() {
            if !literal.bytes().all(|b| b == b'/' || is_literal(b)) {
                return None;
            }
            parts.push(Part::Literal(literal));
        }
        let Some(after) = after else { break };
        let (variable, after) = after.split_once('}')?;
        if !is_variable_name(variable) {
            return None;
        }
        parts.push(Part::Variable(variable));
        rest = after;
    }
    Some(parts)
}

fn is_literal(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=*".contains(&b)
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct Parser {
    pattern: String,
    variables: Vec<Box<str>>,
    after_text_glob: bool,
}

impl Parser {
    fn template(&mut self, template: &str) -> BuildResult<()> {
        let bad = |text: String| Err(BuildError(text));
        if !template.starts_with('/') || !template.bytes().all(|b| b.is_ascii_graphic()) {
            return bad(format!("Invalid pattern: \"{template}\""));
        }
        let mut rest = &template[1..];
        self.pattern.push('/');
        while !rest.is_empty() {
            rest = match rest.as_bytes()[0] {
                b'*' => self.operator(rest)?,
                b'{' => self.variable(rest)?,
                _ => self.literal(rest)?,
            };
            if rest.is_empty() {
                break;
            }
            match rest.strip_prefix('/') {
                Some(after) => {
                    self.pattern.push('/');
                    rest = after;
                }
                // What follows an operator or a variable within its segment.
                None => {
                    if !self.literal(rest)?.is_empty() {
                        return bad("Prefix match not supported.".into());
                    }
                    break;
                }
            }
        }
        Ok(())
    }
    /// Takes characters up to the next `/`.
    fn literal<'a>(&mut self, rest: &'a str) -> BuildResult<&'a str> {
        let (literal, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if literal.is_empty() || !literal.bytes().all(is_literal) {
            return Err(BuildError(format!("Invalid literal: \"{literal}\"")));
        }
        for c in literal.chars() {
            if matches!(c, '$' | '(' | ')' | '+' | '.') {
                self.pattern.push('\\');
            }
            self.pattern.push(c);
        }
        Ok(rest)
    }
    fn operator<'a>(&mut self, rest: &'a str) -> BuildResult<&'a str> {
        if self.after_text_glob {
            return Err("Glob after text glob.".into());
        }
        match rest.strip_prefix("**") {
            Some(rest) => {
                self.after_text_glob = true;
                self.pattern.push_str(SEGMENTS);
                Ok(rest)
            }
            None => {
                self.pattern.push_str(SEGMENT);
                Ok(rest.strip_prefix('*').unwrap_or(rest))
            }
        }
    }
    /// Takes `{name}` or `{name=pattern}`.
    fn variable<'a>(&mut self, all: &'a str) -> BuildResult<&'a str> {
        let Some((inside, rest)) = all[1..].split_once('}') else {
            return Err(BuildError(format!("Unmatched variable bracket in \"{all}\"")));
        };
        let (name, pattern) = inside.split_once('=').map_or((inside, None), |(n, p)| (n, Some(p)));
        if !is_variable_name(name) {
            return Err(BuildError(format!("Invalid variable name: \"{name}\"")));
        }
        if self.variables.len() >= MOST_VARIABLES {
            return Err(BuildError(format!("Exceeded variable count limit ({MOST_VARIABLES})")));
        }
        if name.len() > LONGEST_NAME {
            return Err(BuildError(format!(
                "Invalid variable name length (length of \"{name}\" should be at least 1 and no more than {LONGEST_NAME})"
            )));
        }
        if self.variables.iter().any(|v| **v == *name) {
            return Err(BuildError(format!("Repeated variable name: \"{name}\"")));
        }
        self.variables.push(name.into());
        self.pattern.push('(');
        match pattern {
            None if self.after_text_glob => {
                return Err("Implicit variable path glob after text glob.".into());
            }
            None => self.pattern.push_str(SEGMENT),
            Some("") => return Err("Empty variable match".into()),
            Some(mut p) => loop {
                p = if p.starts_with('*') { self.operator(p)? } else { self.literal(p)? };
                if p.is_empty() {
                    break;
                }
                match p.strip_prefix('/') {
                    Some(after) if !after.is_empty() => p = after,
                    _ => return Err(BuildError(format!("Invalid variable match: \"{p}\""))),
                }
                self.pattern.push('/');
            },
        }
        self.pattern.push(')');
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        UriTemplate::new(template).expect("a valid template").matches(path.as_bytes())
    }

    #[test]
    fn globs_and_literals() {
        for (template, path, want) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/", false),
            ("/a/", "/a/", true),
            ("/a.b", "/axb", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/**.m3u8", "/x/y.m3u8", true),
            ("/**.m3u8", "/x/y.m3u", false),
            ("/v/{id}", "/v/7", true),
            ("/v/{rest=**}", "/v/7/8/9", true),
            ("/v/{two=*/x}/z", "/v/7/x/z", true),
            ("/v/{two=*/x}/z", "/v/7/y/z", false),
            ("/", "/", true),
            ("/*", "/caf\u{e9}", false),
        ] {
            assert_eq!(matches(template, path), want, "{template} {path}");
        }
    }

    #[test]
    fn bad_templates() {
        for (template, why) in [
            ("a", "Invalid pattern: \"a\""),
            ("/a//b", "Invalid literal: \"\""),
            ("/**/*", "Glob after text glob."),
            ("/**/{x}", "Implicit variable path glob after text glob."),
            ("/{x", "Unmatched variable bracket in \"{x\""),
            ("/{1}", "Invalid variable name: \"1\""),
            ("/{x}/{x}", "Repeated variable name: \"x\""),
            ("/{x=}", "Empty variable match"),
            ("/{x=*/}", "Invalid variable match: \"/\""),
            ("/*a/b", "Prefix match not supported."),
            ("/{a}/{b}/{c}/{d}/{e}/{f}", "Exceeded variable count limit (5)"),
            (
                "/{abcdefghijklmnopq}",
                "Invalid variable name length (length of \"abcdefghijklmnopq\" should be at least 1 and no more than 16)",
            ),
        ] {
            assert_eq!(UriTemplate::new(template).err().map(|e| e.0).as_deref(), Some(why), "{template}");
        }
    }

    #[test]
    fn rewriting() {
        let t = UriTemplate::new("/api/{version}/{rest=**}").expect("a valid template");
        let mut out = vec![];
        t.rewriting("/{rest}/of/{version}").expect("its variables").replace_all(b"/api/v1/a/b", &mut out);
        assert_eq!(out, b"/a/b/of/v1");
        assert_eq!(t.rewriting("/{other}").err(), Some(true));
        for bad in ["{rest}", "/a//b", "/{rest", "/{1}", "/a b"] {
            assert_eq!(t.rewriting(bad).err(), Some(false), "{bad}");
        }
    }
}
