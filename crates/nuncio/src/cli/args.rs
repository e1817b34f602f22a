//! The grammar of the command line, which is that of Envoy's argument library: `--name value` and `-c value`, never
//! `--name=value` nor `-cvalue`; each option at most once.

use super::table::{ARGS, Arg, HELP, IGNORE_REST, Kind, VERSION};

/// What the command line says, before it means anything.
#[derive(Debug, Default, PartialEq)]
pub struct Raw {
    given: Vec<(&'static str, String)>,
}

impl Raw {
    /// True when a switch, or any option, was given.
    pub fn has(&self, long: &str) -> bool {
        self.text(long).is_some()
    }
    /// The value of an option; empty for a switch that was given.
    pub fn text(&self, long: &str) -> Option<&str> {
        debug_assert!(ARGS.iter().any(|a| a.long == long), "--{long} is not in the table");
        self.given.iter().find(|(n, _)| *n == long).map(|(_, v)| v.as_str())
    }
    /// All values of an option that may be repeated.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(n, _)| *n == long).map(|(_, v)| v.as_str())
    }
    /// The value of an option that is a number; none also for an empty value, as in the library.
    pub fn number(&self, long: &str) -> Option<u32> {
        self.text(long).and_then(|v| number(v).ok().flatten())
    }
}

/// How parsing ended.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    /// Wholly read.
    Options(Raw),
    /// `--help` was met.
    Help,
    /// `--version` was met.
    Version,
    /// The argument, as errors name it, and what is wrong with it.
    Error(String, String),
}

/// Reads the arguments behind the program's name.
pub fn parse(args: &[String]) -> Parsed {
    let (mut raw, mut rest) = (Raw::default(), args.iter());
    while let Some(text) = rest.next() {
        let Some(arg) = ARGS.iter().find(|a| a.matches(text)) else {
            if is_bundle_with_help(text) {
                return Parsed::Help;
            }
            return Parsed::Error(text.clone(), "Couldn't find match for argument".to_owned());
        };
        let error = |what: &str| Parsed::Error(arg.id(), what.to_owned());
        match arg.long {
            HELP => return Parsed::Help,
            VERSION => return Parsed::Version,
            IGNORE_REST => break,
            _ => {}
        }
        if arg.kind != Kind::Texts && raw.has(arg.long) {
            return error("Argument already set!");
        }
        let value = match arg.kind {
            Kind::Switch => String::new(),
            _ => match rest.next() {
                Some(v) => v.clone(),
                None => return error("Missing a value for this argument!"),
            },
        };
        if arg.kind == Kind::Number
            && let Err(what) = number(&value)
        {
            return error(&what);
        }
        raw.given.push((arg.long, value));
    }
    Parsed::Options(raw)
}

impl Arg {
    fn matches(&self, text: &str) -> bool {
        match text.strip_prefix("--") {
            Some("") => self.short == "-",
            Some(name) => name == self.long,
            None => !self.short.is_empty() && text.strip_prefix('-') == Some(self.short),
        }
    }
}

/// Letters behind one dash are switches bundled together; the only switch with a letter is `-h`.
fn is_bundle_with_help(text: &str) -> bool {
    let letters = text.strip_prefix('-').filter(|l| !l.starts_with('-') && !l.contains(' '));
    letters.is_some_and(|l| l.contains('h'))
}

/// A number as a C++ stream reads it: blanks before it, a sign (a negative number wraps around), nothing behind it.
/// An empty text leaves the default.
fn number(text: &str) -> Result<Option<u32>, String> {
    let bad = || format!("Couldn't read argument value from string '{text}'");
    if text.is_empty() {
        return Ok(None);
    }
    let mut words = text.trim_ascii_start().split_ascii_whitespace();
    let first = words.next().ok_or_else(bad)?;
    let read = |w: &str| match w.strip_prefix('-') {
        Some(n) if !n.starts_with(['+', '-']) => n.parse::<u32>().ok().map(u32::wrapping_neg),
        _ => w.parse::<u32>().ok(),
    };
    let value = read(first).ok_or_else(bad)?;
    match words.next() {
        Some(second) if read(second).is_some() => {
            Err(format!("More than one valid value parsed from string '{text}'"))
        }
        Some(_) => Err(bad()),
        None if text.ends_with(|c: char| c.is_ascii_whitespace()) => Err(bad()),
        None => Ok(Some(value)),
    }
}
