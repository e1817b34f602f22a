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
        ("front-proxy --scale service3=1", "no such service: \"service3\" (there are service1 and service2)"),
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
        ("dynamic now", "unexpected word: \"now\""),
        ("control-plane", "--folder is missing"),
        ("control-plane --folder x --listen 18000", "is not ADDRESS:PORT"),
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
    assert_eq!(parsed("service --name 1 --listen=127.0.0.1:81 --hostname h"), Ok(Command::Service(expected)));
}

#[test]
fn dynamic_and_its_control_plane() {
    let expected = Dynamic {
        base_port: 9000,
        folder: Some("d".into()),
        sotw: true,
        log_level: "info".into(),
        logs: true,
        proxy: Some("/usr/bin/envoy".into()),
    };
    let line = "dynamic --base-port 9000 --folder d --sotw -l info --logs --proxy=/usr/bin/envoy";
    assert_eq!(parsed(line), Ok(Command::Dynamic(expected)));
    let expected = ControlPlane { folder: "d".into(), listen: ([127, 0, 0, 1], 18_000).into() };
    assert_eq!(parsed("control-plane --folder d"), Ok(Command::ControlPlane(expected)));
}

#[test]
fn every_command_has_help() {
    for command in [
        "front-proxy",
        "dynamic",
        "control-plane",
        "scale",
        "status",
        "stop",
        "service",
        "certificate",
        "check",
    ] {
        let Ok(Command::Help(text)) = parsed(&format!("{command} --help")) else { panic!("{command}") };
        assert!(text.starts_with(&format!("Usage: nuncio sandbox {command} ")), "{text}");
        assert!(help::ALL.contains(&format!("\n  {command} ")), "{command}");
    }
}

/// Containers are not part of the tests; what they would run is at least understood.
#[test]
fn what_the_compose_file_runs_is_understood() {
    let file = include_str!("../../../../../examples/front-proxy/docker-compose.yaml");
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
