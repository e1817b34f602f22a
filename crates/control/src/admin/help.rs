//! `/help`, the 404 text and the home page.

use super::commands::{COMMANDS, Command};
use super::response::HTML;
use super::{AdminCx, Request, Response};
use std::fmt::Write;

/// The list of commands, in text.
fn list(out: &mut String) {
    out.push_str("admin commands are:\n");
    for c in COMMANDS {
        let post = if c.mutates { " (POST)" } else { "" };
        let _ = writeln!(out, "  {}{post}: {}", c.path, c.help); // a String takes everything
        for p in c.params {
            let _ = write!(out, "      {}: {}", p.name, p.help);
            if !p.one_of.is_empty() {
                let _ = write!(out, "; One of ({})", p.one_of.join(", "));
            }
            out.push('\n');
        }
    }
}

/// What is answered to an unknown path.
pub fn not_found() -> String {
    let mut out = "invalid path. ".to_owned();
    list(&mut out);
    out
}

/// `/help`
pub fn help(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let mut out = String::new();
    list(&mut out);
    Response::text(200, out)
}

const STYLE: &str = "body{font-family:sans-serif;margin:1.5em;max-width:70em}table{border-collapse:collapse}\
td{padding:.35em .6em;vertical-align:top;border-top:1px solid #ddd}form{margin:0}\
button{font:inherit;border:0;background:none;padding:0;color:#069;text-decoration:underline;cursor:pointer}\
label{display:block;color:#555;font-size:.85em;margin-top:.3em}input,select{margin-left:.5em}";

/// `/`: a page with a form for each command.
pub fn home(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let mut out = String::with_capacity(16 << 10);
    out.push_str(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Envoy Admin</title>\n",
    );
    let _ = write!(out, "<style>{STYLE}</style>\n</head>\n<body>\n<table>\n"); // a String takes everything
    for c in COMMANDS.iter().filter(|c| c.path != "/") {
        row(c, &mut out);
    }
    out.push_str("</table>\n</body>\n</html>\n");
    Response { content_type: HTML, ..Response::text(200, out) }
}

fn row(c: &Command, out: &mut String) {
    let method = if c.mutates { "post" } else { "get" };
    let (path, name) = (c.path, &c.path[1..]);
    let _ = write!(out, "<tr><td><form action=\"{name}\" method=\"{method}\"><button>{path}</button>");
    for p in c.params {
        let _ = write!(out, "<label title=\"{}\">{}", escape(p.help), p.name);
        if p.one_of.is_empty() {
            // An empty parameter counts as absent, except where its presence alone is what matters.
            let kind = if FLAGS.contains(&p.name) { "checkbox" } else { "text" };
            let _ = write!(out, "<input type=\"{kind}\" name=\"{}\">", p.name);
        } else {
            let _ = write!(out, "<select name=\"{}\">", p.name);
            let empty = p.one_of[0].is_empty();
            for v in std::iter::once(&"").filter(|_| !empty).chain(p.one_of) {
                let _ = write!(out, "<option>{v}</option>");
            }
            out.push_str("</select>");
        }
        out.push_str("</label>");
    }
    let _ = writeln!(out, "</form></td><td>{}</td></tr>", escape(c.help));
}

/// Parameters that count by being there.
const FLAGS: &[&str] =
    &["usedonly", "invert_filter", "text_readouts", "include_eds", "graceful", "skip_exit", "inboundonly"];

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
