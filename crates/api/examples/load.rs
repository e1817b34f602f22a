//! Loads a YAML bootstrap and prints what each step takes: `load FILE`.

use nuncio_api::encode::encode;
use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::json::{JsonOptions, write_json};
use nuncio_api::load::{LoadOptions, load_bootstrap};
use nuncio_api::schema;
use nuncio_api::tree::parse_yaml;
use nuncio_api::validate::validate;
use prost::Message;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Counts what it is given.
struct Count(usize);

impl std::fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// A line of `/proc/self/status`.
fn status(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?");
    line.trim_start_matches(':').trim().to_string()
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: load FILE")?;
    let begin = Instant::now();
    let options = LoadOptions { path: Some(Path::new(&file)), ..LoadOptions::default() };
    let loaded = match load_bootstrap(&options) {
        Ok(loaded) => loaded,
        Err(errors) => {
            println!("{}\n{errors}", errors.envoy_phrase());
            return Ok(());
        }
    };
    println!("loaded in {:?}, peak {}", begin.elapsed(), status("VmHWM"));
    drop(loaded);

    let text = std::fs::read_to_string(&file)?;
    let message = schema::message("envoy.config.bootstrap.v3.Bootstrap").ok_or("no schema")?;
    let begin = Instant::now();
    let tree = parse_yaml(&text).map_err(|error| error.phrase)?;
    println!("tree of {} bytes in {:?}, {} bytes", text.len(), begin.elapsed(), tree.heap_size());
    let begin = Instant::now();
    let (wire, _) = encode(message, tree.root());
    println!("encoded in {:?}, {} bytes", begin.elapsed(), wire.len());
    let begin = Instant::now();
    let violations = validate(message, &wire);
    println!("checked in {:?}, {} violations", begin.elapsed(), violations.len());
    let begin = Instant::now();
    let bootstrap = Bootstrap::decode(wire.as_slice())?;
    println!("decoded in {:?}", begin.elapsed());
    drop(bootstrap);
    let begin = Instant::now();
    let mut count = Count(0);
    write_json(&mut count, message, &wire, JsonOptions { pretty: true, ..JsonOptions::default() })?;
    println!("printed in {:?}, {} bytes", begin.elapsed(), count.0);
    println!("now {}, peak {}", status("VmRSS"), status("VmHWM"));
    Ok(())
}
