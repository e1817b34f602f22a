//! The help text and the error text of the parser, laid out as Envoy's argument library (TCLAP) does: scripts look for
//! them.

use super::table::{ARGS, Arg, Kind};
use std::fmt::Write;

const WIDTH: usize = 75;

impl Arg {
    /// What stands for the value in the help.
    fn value(&self) -> &'static str {
        match self.kind {
            Kind::Switch => "",
            Kind::Number => " <uint32_t>",
            Kind::Text | Kind::Texts => " <string>",
        }
    }
    /// `-c` or, without a letter, `--mode`.
    fn flag(&self) -> String {
        if self.short.is_empty() { format!("--{}", self.long) } else { format!("-{}", self.short) }
    }
    /// As in the usage line.
    fn brief(&self) -> String {
        let more = if self.kind == Kind::Texts { " ..." } else { "" };
        format!("[{}{}]{more}", self.flag(), self.value())
    }
    /// As the headline of its paragraph.
    fn headline(&self) -> String {
        let value = self.value();
        let short = if self.short.is_empty() { String::new() } else { format!("-{}{value},  ", self.short) };
        let more = if self.kind == Kind::Texts { "  (accepted multiple times)" } else { "" };
        format!("{short}--{}{value}{more}", self.long)
    }
    /// As errors name it: `-c (--config-path)`, `(--mode)`.
    pub fn id(&self) -> String {
        if self.short.is_empty() {
            format!("(--{})", self.long)
        } else {
            format!("-{} (--{})", self.short, self.long)
        }
    }
}

/// Breaks `text` into lines of at most [`WIDTH`] columns: all indented by `indent`, from the second on by `hanging`
/// more. Breaks at blanks (which go), and behind commas and bars (which stay on the next line, as in the library).
fn wrap(text: &str, indent: usize, hanging: usize, out: &mut String) {
    let bytes = text.as_bytes();
    let (mut at, mut indent, mut first) = (0, indent, true);
    if bytes.len() + indent <= WIDTH {
        let _ = writeln!(out, "{:indent$}{text}", ""); // a String takes everything
        return;
    }
    while at < bytes.len() {
        let room = WIDTH.saturating_sub(indent).max(1);
        let mut len = room.min(bytes.len() - at);
        if len == room {
            let cut = (1..=len).rev().find(|n| matches!(bytes.get(at + n), Some(b' ' | b',' | b'|')));
            len = cut.unwrap_or(room);
        }
        if let Some(n) = bytes[at..at + len].iter().position(|b| *b == b'\n') {
            len = n + 1;
        }
        let line = &text[at..at + len]; // the texts are ASCII
        let _ = writeln!(out, "{:indent$}{line}", "");
        if first {
            indent += hanging;
            first = false;
        }
        at += len;
        while bytes.get(at) == Some(&b' ') {
            at += 1;
        }
    }
}

fn usage_line(program: &str, out: &mut String) {
    let mut line = format!("{program} ");
    for a in ARGS {
        line.push(' ');
        line.push_str(&a.brief());
    }
    wrap(&line, 3, (program.len() + 2).min(WIDTH / 2), out);
}

/// The text of `--help`; `extra` is printed behind the options.
pub fn help(program: &str, extra: &str) -> String {
    let mut out = "\nUSAGE: \n\n".to_owned();
    usage_line(program, &mut out);
    out.push_str("\n\nWhere: \n\n");
    for a in ARGS {
        wrap(&a.headline(), 3, 3, &mut out);
        wrap(a.help, 5, 0, &mut out);
        out.push('\n');
    }
    out.push_str(extra);
    let _ = write!(out, "\n   nuncio {}\n\n", nuncio_control::version::OWN);
    out
}

/// The text of a parse error: of what, and what is wrong.
pub fn parse_error(program: &str, id: &str, what: &str) -> String {
    let mut out = format!("PARSE ERROR: Argument: {id}\n             {what}\n\nBrief USAGE: \n");
    usage_line(program, &mut out);
    let _ = write!(out, "\nFor complete USAGE and HELP type: \n   {program} --help\n\n{id} -- {what}\n");
    out
}
