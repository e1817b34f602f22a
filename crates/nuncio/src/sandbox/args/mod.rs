//! The words after `nuncio sandbox`.

mod help;

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
    /// `dynamic`: run the sandbox with a control plane.
    Dynamic(Dynamic),
    /// `control-plane`: run the control plane alone.
    ControlPlane(ControlPlane),
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

/// Options of `sandbox dynamic`.
#[derive(Debug, PartialEq)]
pub(super) struct Dynamic {
    /// Where 8000 of the configuration files goes.
    pub(super) base_port: u16,
    /// Where the files to edit are; beside the sandbox's own when `None`.
    pub(super) folder: Option<PathBuf>,
    /// Speak the state-of-the-world protocol, not delta.
    pub(super) sotw: bool,
    /// `--log-level` of the proxy.
    pub(super) log_level: String,
    /// Print what the proxy logs.
    pub(super) logs: bool,
    /// The binary to run as proxy; ours when `None`.
    pub(super) proxy: Option<PathBuf>,
}

/// Options of `sandbox control-plane`.
#[derive(Debug, PartialEq)]
pub(super) struct ControlPlane {
    /// Where the files with the resources are.
    pub(super) folder: PathBuf,
    /// Where to listen.
    pub(super) listen: SocketAddr,
}

/// Reads the words after `sandbox`.
///
/// # Errors
/// A text for the user that names the word that is wrong and where to find help.
pub(super) fn parse(args: &[String]) -> Result<Command, Failure> {
    let Some((command, rest)) = args.split_first() else {
        return Err(format!("no command given\n{}", help::ALL));
    };
    let parsed = match command.as_str() {
        "-h" | "--help" | "help" => return Ok(Command::Help(help::ALL)),
        "guard" => return Ok(Command::Guard(rest.to_vec())),
        "front-proxy" => front_proxy(rest),
        "dynamic" => dynamic(rest),
        "control-plane" => control_plane(rest),
        "service" => service(rest),
        "scale" => control(rest, "scale", help::SCALE),
        "status" => control(rest, "status", help::STATUS),
        "stop" => control(rest, "stop", help::STOP),
        "check" => one_word(rest, "URL", help::CHECK, |url| Command::Check { url }),
        "certificate" => {
            one_word(rest, "DIR", help::CERTIFICATE, |d| Command::Certificate { directory: d.into() })
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
            "-h" | "--help" => return Ok(Command::Help(help::FRONT_PROXY)),
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

fn dynamic(args: &[String]) -> Result<Command, Failure> {
    let mut options = Dynamic {
        base_port: DEFAULT_BASE_PORT,
        folder: None,
        sotw: false,
        log_level: "warn".into(),
        logs: false,
        proxy: None,
    };
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(help::DYNAMIC)),
            "--base-port" => options.base_port = base_port(&words.value(word)?)?,
            "--folder" => options.folder = Some(words.value(word)?.into()),
            "--sotw" => options.sotw = true,
            "-l" | "--log-level" => options.log_level = words.value(word)?,
            "--logs" => options.logs = true,
            "--proxy" => options.proxy = Some(words.value(word)?.into()),
            _ => return Err(word.unknown()),
        }
    }
    Ok(Command::Dynamic(options))
}

fn control_plane(args: &[String]) -> Result<Command, Failure> {
    let mut folder = None;
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 18_000));
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(help::CONTROL_PLANE)),
            "--folder" => folder = Some(words.value(word)?.into()),
            "--listen" => listen = address(&words.value(word)?)?,
            _ => return Err(word.unknown()),
        }
    }
    Ok(Command::ControlPlane(ControlPlane { folder: folder.ok_or("--folder is missing")?, listen }))
}

fn address(value: &str) -> Result<SocketAddr, Failure> {
    value.parse().map_err(|_| format!("--listen {value:?} is not ADDRESS:PORT"))
}

fn service(args: &[String]) -> Result<Command, Failure> {
    let mut name = None;
    let mut listen = SocketAddr::from(([0, 0, 0, 0], 8080));
    let mut hostname = None;
    let mut words = Words::new(args);
    while let Some(word) = words.next() {
        match word.name() {
            "-h" | "--help" => return Ok(Command::Help(help::SERVICE)),
            "--name" => name = Some(words.value(word)?),
            "--listen" => listen = address(&words.value(word)?)?,
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
mod tests;
