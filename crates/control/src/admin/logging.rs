//! `/logging` and `/reopen_logs`.

use super::{AdminCx, Params, Request, Response};
use nuncio_core::log::{self, LEVELS, Level, Logger};
use std::fmt::Write;

/// `/logging`: changes thresholds as asked, then lists them.
pub fn logging(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let (mut out, mut status) = (String::new(), 200);
    if let Err(e) = change(request.params(), cx.server.options.fine_grain_logging) {
        status = 400;
        let _ = write!(out, "error: {e}\n\n"); // a String takes everything
        out.push_str(
            "usage: /logging?<name>=<level> (change single level)\n\
             usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
             usage: /logging?level=<level> (change all levels)\n\
             usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
             levels: ",
        );
        LEVELS.iter().for_each(|l| out.extend([l.name(), " "]));
        out.push('\n');
    }
    out.push_str("active loggers:\n");
    for l in Logger::all() {
        let _ = writeln!(out, "  {}: {}", l.name(), log::level(l));
    }
    out.push('\n');
    Response::text(status, out)
}

fn change(mut params: Params, fine_grain: bool) -> Result<(), &'static str> {
    // A form sends what was left empty, too.
    params.0.retain(|(_, v)| !v.is_empty());
    let level = |name: &str| LEVELS.into_iter().find(|l| l.name() == name).ok_or("unknown logger level");
    let (name, value) = match params.0.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => return Err("invalid number of parameters"),
    };
    let changes: Vec<(&str, Level)> = match name.as_str() {
        "level" => {
            let to = level(value)?;
            log::set_all(to);
            nuncio_core::log!(Misc, Info, "change all log levels: level='{to}'");
            return Ok(());
        }
        "group" if !fine_grain => return Err("group parameter requires fine-grain logging to be enabled"),
        "paths" | "group" => value
            .split(',')
            .filter(|p| !p.trim().is_empty())
            .map(|pair| match pair.split_once(':') {
                Some((name, to)) if !name.is_empty() && !to.is_empty() => Ok((name, level(to)?)),
                _ => Err("empty logger name or empty logger level"),
            })
            .collect::<Result<_, _>>()?,
        _ => vec![(name, level(value)?)],
    };
    let loggers: Option<Vec<_>> =
        changes.into_iter().map(|(n, to)| Some((Logger::from_name(n)?, to))).collect();
    for (logger, to) in loggers.ok_or("unknown logger name")? {
        nuncio_core::log!(Admin, Info, "change log level: name='{}' level='{to}'", logger.name());
        log::set_level(logger, to);
    }
    Ok(())
}

/// `/reopen_logs`
pub fn reopen_logs(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    cx.view.reopen_access_logs();
    Response::ok()
}
