//! What `--help` prints.

pub(super) const ALL: &str = "\
Usage: nuncio sandbox COMMAND [OPTIONS]

Commands:
  front-proxy               run the sandbox until Ctrl-C
  dynamic                   run a proxy and its control plane, whose files you edit, until Ctrl-C
  control-plane             run the control plane alone
  scale SERVICE=N...        change the number of instances of a service in the running sandbox
  status                    show what runs where
  stop                      stop the running sandbox
  service                   run one instance of the sandbox's HTTP service
  certificate DIR           write a new certificate for the front proxy to DIR
  check URL                 exit with 0 when GET URL (http) answers 2xx, for health checks

`nuncio sandbox COMMAND --help` tells more.
";

pub(super) const FRONT_PROXY: &str = "\
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

pub(super) const DYNAMIC: &str = "\
Usage: nuncio sandbox dynamic [OPTIONS]

Runs, on loopback, a proxy (8080 HTTP, 8001 admin) that gets its configuration from a control plane (8010), two services with two
instances each, and the control plane. It prints which files to edit, and what the proxy makes of them.

Options:
  --folder DIR          where the files are; made and filled when there is nothing in it (default: a folder that goes with
                        the sandbox)
  --sotw                speak the state-of-the-world protocol (default: delta)
  --base-port N         where port 8000 of the configuration goes, all others move along (default 8000)
  -l, --log-level L     log level of the proxy (default warn)
  --logs                print what the proxy logs
  --proxy PATH          run another Envoy-compatible binary as the proxy
";
pub(super) const CONTROL_PLANE: &str = "\
Usage: nuncio sandbox control-plane --folder DIR [--listen ADDRESS:PORT]

Serves the resources in the files of DIR (.yaml, .json: `resources:`, each with its `@type`) to all proxies that ask on
ADDRESS:PORT (default 127.0.0.1:18000), by ADS or one stream per kind, delta or state of the world, and prints what they
make of them. Changed files are read again.
";

pub(super) const SCALE: &str = "\
Usage: nuncio sandbox scale SERVICE=N... [--base-port N]

Starts or stops instances of service1 or service2 (0 to 100) in the running sandbox. The proxies learn of it from DNS.
--base-port tells which sandbox, when several run.
";
pub(super) const STATUS: &str = "Usage: nuncio sandbox status [--base-port N]\n";
pub(super) const STOP: &str = "Usage: nuncio sandbox stop [--base-port N]\n";
pub(super) const SERVICE: &str = "\
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
pub(super) const CERTIFICATE: &str = "\
Usage: nuncio sandbox certificate DIR

Writes a new authority (ca.pem) and a certificate of it for localhost and front-proxy (front-proxy-crt.pem,
front-proxy-key.pem) to DIR, which is made when it does not exist.
";
pub(super) const CHECK: &str = "Usage: nuncio sandbox check http://HOST:PORT/PATH\n";
