//! Expected texts are what Envoy 1.40.0 printed for the same arguments.

use super::*;
use table::{ARGS, Kind};

fn parse(args: &[&str]) -> Command {
    super::parse("envoy", &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), "")
}
fn run(args: &[&str]) -> Options {
    match parse(args) {
        Command::Run(o) => *o,
        Command::Exit(e) => panic!("{args:?}: {e:?}"),
    }
}
fn exit(args: &[&str]) -> Exit {
    match parse(args) {
        Command::Exit(e) => e,
        Command::Run(o) => panic!("{args:?}: {o:?}"),
    }
}
fn error(args: &[&str]) -> String {
    let e = exit(args);
    assert_eq!((e.code, e.out.as_str()), (1, ""), "{args:?}");
    e.err
}

#[test]
fn every_option_is_accepted_at_once() {
    assert_eq!(ARGS.len(), 43 + 1 + 2, "Envoy's 43, `--`, and two of ours");
    let mut args = Vec::new();
    for a in
        ARGS.iter().filter(|a| !matches!(a.long, "ignore_rest" | "version" | "help" | "hot-restart-version"))
    {
        args.push(format!("--{}", a.long));
        let value = match (a.kind, a.long) {
            (Kind::Switch, _) => continue,
            (Kind::Number, _) => "0",
            (_, "mode") => "validate",
            (_, "log-level") => "debug",
            (_, "component-log-level") => "",
            (_, "local-address-ip-version") => "v6",
            (_, "drain-strategy") => "immediate",
            (_, "stats-tag") => "a:b",
            (_, "socket-mode") => "640",
            _ => "x",
        };
        args.push(value.to_owned());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let o = run(&args);
    assert_eq!((o.mode, o.log_level, o.local_address_v6), (Mode::Validate, Level::Debug, true));
    assert_eq!(
        (o.drain_strategy, o.drain_time, o.concurrency),
        (DrainStrategy::Immediate, Duration::ZERO, Some(1))
    );
    assert_eq!((o.socket_path.as_str(), o.socket_mode), ("x", 0o640));
    assert!(o.watch && o.enable_core_dump && o.enable_mutex_tracing && o.allow_unknown_static_fields);
    assert_eq!(o.warnings.len(), 1, "--skip-deprecated-logs silences the other one: {:?}", o.warnings);
}

#[test]
fn defaults() {
    assert_eq!(run(&[]), Options::default());
    assert_eq!(run(&["--", "--nope"]), Options::default());
}

#[test]
fn short_and_long_forms() {
    let o = run(&["-c", "a.yaml", "-l", "warn", "--stats-tag", "region:eu", "--stats-tag", "stage:x:y"]);
    assert_eq!((o.config_path.as_str(), o.log_level), ("a.yaml", Level::Warning));
    assert_eq!(o.stats_tags, [("region".into(), "eu".into()), ("stage".into(), "x:y".into())]);
    assert_eq!(run(&["--config-path", "-x"]).config_path, "-x");
    let o = run(&["--component-log-level", "upstream:debug,config:off"]);
    assert_eq!(o.component_log_levels, [(Logger::Upstream, Level::Debug), (Logger::Config, Level::Off)]);
}

#[test]
fn numbers_as_a_cpp_stream_reads_them() {
    assert_eq!(run(&["--concurrency", ""]).concurrency, None);
    assert_eq!(run(&["--concurrency", "-1"]).concurrency, Some(u32::MAX));
    assert_eq!(run(&["--concurrency", " +7"]).concurrency, Some(7));
    assert_eq!(run(&["--concurrency", "0"]).concurrency, Some(1));
    for bad in ["abc", "1x", "0x10", "4294967296", "7 ", "--1", " "] {
        let text = error(&["--concurrency", bad]);
        assert!(
            text.contains(&format!("             Couldn't read argument value from string '{bad}'\n")),
            "{text}"
        );
    }
    assert!(error(&["--base-id", "1 2"]).contains("More than one valid value parsed from string '1 2'"));
}

#[test]
fn what_the_grammar_refuses() {
    for (args, last) in [
        (&["--nope"][..], "--nope -- Couldn't find match for argument"),
        (&["foo"], "foo -- Couldn't find match for argument"),
        (&["-cfoo"], "-cfoo -- Couldn't find match for argument"),
        (&["--config-path=x"], "--config-path=x -- Couldn't find match for argument"),
        (&["-c"], "-c (--config-path) -- Missing a value for this argument!"),
        (&["--mode"], "(--mode) -- Missing a value for this argument!"),
        (&["-c", "a", "--config-path", "b"], "-c (--config-path) -- Argument already set!"),
        (&["--log-level", "x", "-l", "y"], "-l (--log-level) -- Argument already set!"),
        (&["--watch", "--watch"], "(--watch) -- Argument already set!"),
        (&["--nope", "--version"], "--nope -- Couldn't find match for argument"),
    ] {
        let text = error(args);
        assert_eq!(text.lines().last(), Some(last), "{args:?}");
    }
}

#[test]
fn what_a_value_may_not_say() {
    for (args, text) in [
        (&["--mode", "bogus"][..], "error: unknown mode 'bogus'\n"),
        (&["-l", "bogus"], "error: invalid log level specified 'bogus'\n"),
        (&["--component-log-level", "foo:info"], "error: invalid component specified 'foo'\n"),
        (&["--component-log-level", "main:bogus"], "error: invalid log level specified 'bogus'\n"),
        (&["--component-log-level", "foo"], "error: component log level not correctly specified 'foo'\n"),
        (&["--component-log-level", "a:b:c"], "error: component log level not correctly specified 'a:b:c'\n"),
        (&["--component-log-level", "main:info,"], "error: component log level not correctly specified ''\n"),
        (
            &["--enable-fine-grain-logging", "--component-log-level", "a:b"],
            "error: --component-log-level will not work with --enable-fine-grain-logging\n",
        ),
        (&["--local-address-ip-version", "v5"], "error: unknown IP address version 'v5'\n"),
        (&["--stats-tag", "bad"], "error: misformatted stats-tag 'bad'\n"),
        (&["--stats-tag", "a:b.c"], "error: misformatted stats-tag 'a:b.c' contains invalid char in 'b.c'\n"),
        (&["--stats-tag", "a_b:c"], "error: misformatted stats-tag 'a_b:c' contains invalid char in 'a_b'\n"),
        (&["--stats-tag", "a:"], "error: misformatted stats-tag 'a:' contains invalid char in ''\n"),
        (&["--drain-strategy", "foo"], "error: unknown drain-strategy 'serve'\n"),
        (
            &["--restart-epoch", "1", "--use-dynamic-base-id"],
            "error: cannot use --restart-epoch=1 with --use-dynamic-base-id\n",
        ),
        (&["--socket-path", "/x", "--socket-mode", "9"], "error: invalid socket-mode '9'\n"),
    ] {
        assert_eq!(error(args), text);
    }
}

#[test]
fn version_and_help_end_parsing() {
    let v = exit(&["--base-id", "1", "--version", "--nope"]);
    assert_eq!((v.code, v.err.as_str()), (0, ""));
    assert!(v.out.starts_with("\nenvoy  version: ") && v.out.ends_with("/rustls\n\n"), "{}", v.out);
    assert_eq!(exit(&["-h"]), exit(&["--help", "-x"]));
    assert_eq!(exit(&["-h"]), exit(&["-cxhz"]), "switches bundled behind one dash, as the library reads it");
    assert_eq!(exit(&["--hot-restart-version"]).err, "11.104\n");
    assert_eq!(exit(&["--hot-restart-version", "--disable-hot-restart"]).err, "disabled\n");
}

/// Laid out as Envoy's help: the paragraphs from its first option on are Envoy's own text.
#[test]
fn help_is_laid_out_as_envoys() {
    let text = exit(&["--help"]).out;
    assert!(
        text.starts_with(
            "\nUSAGE: \n\n   envoy  [--watch] [--graceful-shutdown-s <uint32_t>] [--stats-tag\n"
        ),
        "{text}"
    );
    for part in [
        "Where: \n\n   --watch\n     Take over changes of the configuration file while serving\n\n",
        "   --stats-tag <string>  (accepted multiple times)\n     This flag provides a universal tag for all stats generated by Envoy.\n     \
         The format is ``tag:value``. Only alphanumeric values are allowed for\n",
        "     Log message format in spdlog syntax (see\n     \
         https://github.com/gabime/spdlog/wiki/3.-Custom-formatting)\n\n     \
         Default is \"[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v\"\n\n",
        "   -l <string>,  --log-level <string>\n     Log levels: [trace][debug][info][warning\n     \
         |warn][error][critical][off]\n\n     Default is [info]\n\n",
        "   --,  --ignore_rest\n     Ignores the rest of the labeled arguments following this flag.\n\n   --version\n",
    ] {
        assert!(text.contains(part), "{part}\n--- not in ---\n{text}");
    }
}

/// The wrapped usage line, for a program name of the length Envoy was measured with.
#[test]
fn usage_line_is_wrapped_as_envoys() {
    let program = "/opt/proxies/v1-40/bin/x/envoy"; // 30 columns: the second line starts at column 35
    let Command::Exit(e) = super::parse(program, &["--nope".into()], "") else { panic!() };
    let lines: Vec<&str> = e.err.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "PARSE ERROR: Argument: --nope",
            "             Couldn't find match for argument",
            "",
            "Brief USAGE: "
        ]
    );
    assert_eq!(lines[4], "   /opt/proxies/v1-40/bin/x/envoy  [--watch] [--graceful-shutdown-s");
    assert!(
        lines[5..lines.len() - 5].iter().all(|l| l.starts_with(&" ".repeat(35)) && l.len() <= 76),
        "{}",
        e.err
    );
    let tail = [
        "",
        "For complete USAGE and HELP type: ",
        "   /opt/proxies/v1-40/bin/x/envoy --help",
        "",
        "--nope -- Couldn't find match for argument",
    ];
    assert_eq!(lines[lines.len() - 5..], tail);
}

/// `docs/options.md` names every option once, as it is written, and no other.
#[test]
fn every_option_is_documented() {
    let page = include_str!("../../../../docs/options.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut told: Vec<&str> = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    let mut there: Vec<String> = ARGS.iter().map(|a| format!("--{}", a.long)).collect();
    // `--` is the short form of `--ignore_rest`, and the only one that Envoy's users know.
    there.iter_mut().filter(|name| *name == "--ignore_rest").for_each(|name| "--".clone_into(name));
    there.extend(["-c", "-l", "-h"].map(str::to_owned));
    told.sort_unstable();
    there.sort_unstable();
    assert_eq!(told, there);
}
