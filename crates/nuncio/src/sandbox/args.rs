//! The words after `nuncio sandbox`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Failure;
use super::topology::{self, DEFAULT_BASE_PORT, MAX_BASE_PORT, MAX_INSTANCES};

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    /// Print this text.
    Help(&'static str),
    /// `front-proxy`: run the sandbox.
    FrontProxy(FrontProxy),
    /// `service`: run one instance of the HTTP service.
    Service(Service),
    /// `scale`, `status`, `stop`: one line for a running sandbox.
    Control { request: String, base_port: Option<u16> },
    /// `check URL`: a health check.
    Check { url: String },
    /// `certificate DIR`.
    Certificate { directory: PathBuf },
    /// `guard PARENT PROGRAM ARGS…`, of our own use.
    Guard(Vec<String>),
}

/// Options of `sandbox front-proxy`.
#[derive(Debug, PartialEq)]
pub(super) struct FrontProxy {
    /// Where 8000 of the configuration files goes.
    pub(super) base_port: u16,
    /// Instances at the start, by service name.
    pub(super) scale: Vec<(String, u8)>,
    /// Worker threads of each proxy.
    pub(super) concurrency: u32,
    /// `--log-level` of each proxy.
    pub(super) log_level: String,
    /// Print what the proxies log.
    pub(super) logs: bool,
    /// The binary to run as proxy; ours when `None`.
    pub(super) proxy: Option<PathBuf>,
    /// Where to read the three configuration files instead of those built in.
    pub(super) config_dir: Option<PathBuf>,
}

impl Default for FrontProxy {
    fn default() -> Self {
        FrontProxy {
            base_port: DEFAULT_BASE_PORT,
            scale: Vec::new(),
            concurrency: 1,
            log_level: "info".into(),
            logs: false,
            proxy: None,
            config_dir: None,
        }
    }
}

/// Options of `sandbox service`.
#[derive(Debug, PartialEq)]
pub(super) struct Service {
    /// N of `/service/N`.
    pub(super) name: String,
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// What the answer calls the host; the machine's name when `None`.
    pub(super) hostname: Option<String>,
}

pub(super) const HELP: &str = "\
Usage: nuncio sandbox COMMAND [OPTIONS]

Commands:
  front-proxy               run the sandbox until Ctrl-C
  scale SERVICE=N...        change the number of instances of a service in the running sandbox
  status                    show what runs where
  stop                      stop the running sandbox
  service                   run one instance of the sandbox's HTTP service
  certificate DIR           write a new certificate for the front proxy to DIR
  check URL                 exit with 0 when GET URL (http) answers 2xx, for health checks

`nuncio sandbox COMMAND --help` tells more.
";

pub(super) const FRONT_PROXY_HELP: &str = "\
Usage: nuncio sandbox front-proxy [OPTIONS]

Runs, on loopback, the sandbox of examples/front-proxy: a front proxy (8080 HTTP, 8443 HTTPS, 8001 admin) before
service1 and service2, each behind a sidecar proxy of its own.

Options:
  --scale SERVICE=N     instances of service1 or service2 (0 to 100, default 1); may be repeated
  --base-port N         where port 8000 of the configuration goes, all others move along: with 9000 the front proxy
                        is on 9080, 9443 and 9001 (default 8000)
  --concurrency N       worker threads of each proxy (default 1)
  -l, --log-level L     log level of the proxies (default info)
  --logs                print what the proxies log, each line with the name of its proxy
  --config-dir DIR      read front-proxy.yaml, service1-sidecar.yaml and service2-sidecar.yaml from DIR
  --proxy PATH          run the proxies with another Envoy-compatible binary
";

const SCALE_HELP: &str = "\
Usage: nuncio sandbox scale SERVICE=N... [--base-port N]

Starts or stops instances of service1 or service2 (0 to 100) in the running sandbox. The proxies learn of it from DNS.
--base-port tells which sandbox, when several run.
";
const STATUS_HELP: &str = "Usage: nuncio sandbox status [--base-port N]\n";
const STOP_HELP: &str = "Usage: nuncio sandbox stop [--base-port N]\n";
const SERVICE_HELP: &str = "\
Usage: nuncio sandbox service --name N [--listen ADDRESS:PORT] [--hostname NAME]

Runs one instance of the sandbox's HTTP/1.1 service (default: on 0.0.0.0:8080). It answers
  /service/N             Hello from behind Nuncio (service N)!
  /headers               method, path and headers as JSON
  /echo                  the request's body and trailers
  /status/CODE           that status
  /delay/250ms           an answer after that time (ms, s; at most 10 minutes)
  /bytes/COUNT           that many bytes, with content-length
  /chunked/COUNT         that many bytes, chunked
  /healthz               ok
each also below /service/N; anything else is 404.
";
const CERTIFICATE_HELP: &str = "\
Usage: nuncio sandbox certificate DIR

Writes a new authority (ca.pem) and a certificate of it for localhost and front-proxy (front-proxy-crt.pem,
front-proxy-key.pem) to DIR, which is made when it does not exist.
";
const CHECK_HELP: &str = "Usage: nuncio sandbox check http://HOST:PORT/PATH\n";

/// Reads the words after `sandbox`.
///
/// # Errors
/// A text for the user that names the word that is wrong and where to find help.
pub(super) fn parse(args: &[String]) -> Result<Command, Failure> {
    let Some((command, rest)) = args.split_first() else { return Err(format!("no command given\n{HELP}")) };
    let parsed = match command.as_str() {
        "-h" | "--help" | "help" => return Ok(Command::Help(HELP)),
        "guard" => return Ok(Command::Guard(rest.to_vec())),
        "front-proxy" => front_proxy(rest),
        "service" => service(rest),
        "scale" => control(rest, "scale", SCALE_HELP),
        "status" => control(rest, "status", STATUS_HELP),
        "stop" => control(rest, "stop", STOP_HELP),
        "check" => one_word(rest, "URL", CHECK_HELP, |url| Command::Check { url }),
        "certificate" => {
            one_word(rest, "DIR", CERTIFICATE_HELP, |d| Command::Certificate { directory: d.into() })
        }
        other => return Err(format!("no such command: {other:?} (see nuncio sandbox --help)")),
    };
    parsed.map_err(|why| format!("{why} (see nuncio sandbox {command} --help)"))
}

fn front_proxy(args: &[String]) -> Result<Command, Failure> {
    let mut options = FrontProxy::default();
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(FRONT_PROXY_HELP)),
            "--scale" => {
                let (service, count) = parse_scale(&words.value(word)?)?;
                options.scale.retain(|(name, _)| *name != service);
                options.scale.push((service, count));
            }
            "--base-port" => options.base_port = base_port(&words.value(word)?)?,
            "--concurrency" => {
                let value = words.value(word)?;
                options.concurrency = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=1024).contains(n))
                    .ok_or_else(|| format!("--concurrency {value:?} is not a number from 1 to 1024"))?;
            }
            "-l" | "--log-level" => options.log_level = words.value(word)?,
            "--logs" => options.logs = true,
            "--config-dir" => options.config_dir = Some(words.value(word)?.into()),
            "--proxy" => options.proxy = Some(words.value(word)?.into()),
            _ => return Err(word.unknown()),
        }
    }
    Ok(Command::FrontProxy(options))
}

fn service(args: &[String]) -> Result<Command, Failure> {
    let mut name = None;
    let mut listen = SocketAddr::from(([0, 0, 0, 0], 8080));
    let mut hostname = None;
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(SERVICE_HELP)),
            "--name" => name = Some(words.value(word)?),
            "--listen" => {
                let value = words.value(word)?;
                listen = value.parse().map_err(|_| format!("--listen {value:?} is not ADDRESS:PORT"))?;
            }
            "--hostname" => hostname = Some(words.value(word)?),
            _ => return Err(word.unknown()),
        }
    }
    let name = name.ok_or("--name is missing")?;
    if name.is_empty() || name.contains('/') {
        return Err(format!("--name {name:?} cannot be part of a path"));
    }
    Ok(Command::Service(Service { name, listen, hostname }))
}

fn control(args: &[String], verb: &str, help: &'static str) -> Result<Command, Failure> {
    let mut base = None;
    let mut request = verb.to_string();
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(help)),
            "--base-port" => base = Some(base_port(&words.value(word)?)?),
            name if name.starts_with('-') || verb != "scale" => return Err(word.unknown()),
            _ => {
                let (service, count) = parse_scale(word.0)?;
                request.push_str(&format!(" {service}={count}"));
            }
        }
    }
    if request == "scale" {
        return Err("SERVICE=N is missing".into());
    }
    Ok(Command::Control { request, base_port: base })
}

fn one_word(
    args: &[String],
    what: &str,
    help: &'static str,
    make: impl Fn(String) -> Command,
) -> Result<Command, Failure> {
    match args {
        [word] if word == "-h" || word == "--help" => Ok(Command::Help(help)),
        [word] if !word.starts_with('-') => Ok(make(word.clone())),
        [] => Err(format!("{what} is missing")),
        [word] | [_, word, ..] => Err(Word(word).unknown()),
    }
}

/// Reads `service1=3`.
///
/// # Errors
/// When the service does not exist or the number is no count of instances.
pub(super) fn parse_scale(text: &str) -> Result<(String, u8), Failure> {
    let (service, count) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not SERVICE=N, as in service1=3"))?;
    if !topology::SERVICES.iter().any(|s| s.name == service) {
        let names: Vec<&str> = topology::SERVICES.iter().map(|s| s.name).collect();
        return Err(format!("no such service: {service:?} (there are {})", names.join(" and ")));
    }
    match count.parse() {
        Ok(n) if n <= MAX_INSTANCES => Ok((service.to_string(), n)),
        _ => Err(format!("{count:?} instances of {service}: not a number from 0 to {MAX_INSTANCES}")),
    }
}

fn base_port(value: &str) -> Result<u16, Failure> {
    value
        .parse()
        .ok()
        .filter(|n| (1..=MAX_BASE_PORT).contains(n))
        .ok_or_else(|| format!("--base-port {value:?} is not a number from 1 to {MAX_BASE_PORT}"))
}

/// One word of the command line.
#[derive(Clone, Copy)]
struct Word<'a>(&'a str);

impl<'a> Word<'a> {
    /// `--flag` of `--flag=value`; the whole word when it is no long option.
    fn name(self) -> &'a str {
        match self.0.split_once('=') {
            Some((name, _)) if name.starts_with("--") => name,
            _ => self.0,
        }
    }
    fn unknown(self) -> Failure {
        match self.0.starts_with('-') {
            true => format!("no such option: {}", self.name()),
            false => format!("unexpected word: {:?}", self.0),
        }
    }
}

/// Words one after the other; values follow their option or stand behind `=`.
struct Words<'a>(std::slice::Iter<'a, String>);

impl<'a> Words<'a> {
    fn new(args: &'a [String]) -> Self {
        Words(args.iter())
    }
    fn next(&mut self) -> Option<Word<'a>> {
        self.0.next().map(|w| Word(w))
    }
    fn value(&mut self, option: Word<'a>) -> Result<String, Failure> {
        match option.0.split_once('=') {
            Some((name, value)) if name.starts_with("--") => Ok(value.to_string()),
            _ => self.0.next().cloned().ok_or_else(|| format!("{} needs a value", option.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn front_proxy_has_defaults() {
        assert_eq!(parsed("front-proxy"), Ok(Command::FrontProxy(FrontProxy::default())));
    }

    #[test]
    fn values_follow_or_stand_behind_an_equals_sign() {
        let expected = FrontProxy {
            base_port: 9000,
            scale: vec![("service2".into(), 2), ("service1".into(), 4)],
            concurrency: 2,
            log_level: "debug".into(),
            logs: true,
            proxy: Some("/usr/bin/envoy".into()),
            config_dir: Some("examples".into()),
        };
        let spaced = "front-proxy --scale service1=3 --scale service2=2 --scale service1=4 --base-port 9000 \
                      --concurrency 2 -l debug --logs --proxy /usr/bin/envoy --config-dir examples";
        let equals = "front-proxy --scale=service2=2 --scale=service1=4 --base-port=9000 --concurrency=2 \
                      --log-level=debug --logs --proxy=/usr/bin/envoy --config-dir=examples";
        assert_eq!(parsed(spaced), Ok(Command::FrontProxy(expected)));
        assert_eq!(parsed(spaced), parsed(equals));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, text) in [
            (
                "front-proxy --scale service3=1",
                "no such service: \"service3\" (there are service1 and service2)",
            ),
            ("front-proxy --scale service1=101", "\"101\" instances of service1"),
            ("front-proxy --scale service1=-1", "not a number from 0 to 100"),
            ("front-proxy --scale service1", "is not SERVICE=N"),
            ("front-proxy --scale", "--scale needs a value"),
            ("front-proxy --base-port 0", "is not a number from 1 to 65092"),
            ("front-proxy --base-port 65093", "is not a number from 1 to 65092"),
            ("front-proxy --concurrency none", "is not a number from 1 to 1024"),
            ("front-proxy --colour=red", "no such option: --colour (see nuncio sandbox front-proxy --help)"),
            ("front-proxy now", "unexpected word: \"now\""),
            ("scale", "SERVICE=N is missing"),
            ("status now", "unexpected word: \"now\""),
            ("service", "--name is missing"),
            ("service --name a/b", "cannot be part of a path"),
            ("service --name 1 --listen 8080", "is not ADDRESS:PORT"),
            ("check", "URL is missing"),
            ("certificate a b", "unexpected word: \"b\""),
            ("back-proxy", "no such command: \"back-proxy\""),
            ("", "no command given"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn requests_to_a_running_sandbox() {
        let control = |request: &str, base_port| Ok(Command::Control { request: request.into(), base_port });
        assert_eq!(parsed("scale service1=3 service2=0"), control("scale service1=3 service2=0", None));
        assert_eq!(parsed("stop --base-port 9000"), control("stop", Some(9000)));
        assert_eq!(parsed("status"), control("status", None));
    }

    #[test]
    fn service_alone() {
        let expected =
            Service { name: "1".into(), listen: ([127, 0, 0, 1], 81).into(), hostname: Some("h".into()) };
        assert_eq!(
            parsed("service --name 1 --listen=127.0.0.1:81 --hostname h"),
            Ok(Command::Service(expected))
        );
    }

    #[test]
    fn every_command_has_help() {
        for command in ["front-proxy", "scale", "status", "stop", "service", "certificate", "check"] {
            let Ok(Command::Help(text)) = parsed(&format!("{command} --help")) else { panic!("{command}") };
            assert!(text.starts_with(&format!("Usage: nuncio sandbox {command} ")), "{text}");
            assert!(HELP.contains(&format!("\n  {command} ")), "{command}");
        }
    }

    /// Containers are not part of the tests; what they would run is at least understood.
    #[test]
    fn what_the_compose_file_runs_is_understood() {
        let file = include_str!("../../../../examples/front-proxy/docker-compose.yaml");
        let mut ours = 0;
        for line in file.lines() {
            let Some((_, list)) = line.split_once("command: ").or_else(|| line.split_once("test: ")) else {
                continue;
            };
            let words: Vec<String> = serde_json::from_str(list).expect(line);
            if let Some(at) = words.iter().position(|word| word == "sandbox") {
                assert!(!matches!(parse(&words[at + 1..]), Err(_) | Ok(Command::Help(_))), "{line}");
                ours += 1;
            }
        }
        assert_eq!(ours, 5, "two services, two health checks, one certificate");
    }
}
