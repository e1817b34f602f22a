//! The floors of the house: arrows between crates only point down, and `engine` and `ext` do not see each other.

use crate::metadata::{Kind, Package};
use std::fmt;

/// Every crate and its floor. The two on floor 4 are siblings.
pub const FLOORS: [(&str, u8); 8] = [
    ("nuncio-api", 1),
    ("nuncio-wire", 2),
    ("nuncio-core", 3),
    ("nuncio-plane", 3),
    ("nuncio-engine", 4),
    ("nuncio-ext", 4),
    ("nuncio-control", 5),
    ("nuncio", 6),
];

/// Beside the floors: may see all of them, and only tests see the first one.
pub const BESIDE: [&str; 2] = ["nuncio-testkit", "xtask"];

/// Crates whose dependencies are a closed list, because of what they must not be able to do.
pub const CLOSED: [(&str, &[&str]); 1] = [
    // Sans-io: bytes in, events out. It does not even see `api`, so that a fuzzer builds it in seconds.
    ("nuncio-wire", &["bytes", "memchr"]),
];

/// Below the engine nothing opens a socket, and `api` does not wait for anything.
pub const BARRED: [(&str, &[&str]); 3] = [
    ("nuncio-api", &["tokio", "hyper", "rustls", "socket2", "mio", "hickory-resolver"]),
    ("nuncio-core", &["hyper", "rustls", "socket2", "mio", "hickory-resolver"]),
    ("nuncio-ext", &["hyper", "socket2", "mio"]),
];

/// `from` names `to` among its dependencies.
pub struct Arrow {
    /// Who depends.
    pub from: String,
    /// On whom.
    pub to: String,
    /// In which way.
    pub kind: Kind,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            Kind::Normal => "",
            Kind::Build => " (build)",
            Kind::Dev => " (tests)",
        };
        write!(f, "{} -> {}{how}", self.from, self.to)
    }
}

/// The floor of one of our crates.
pub fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, floor)| *floor)
}

/// All dependencies that are ever built.
pub fn arrows(packages: &[Package]) -> Vec<Arrow> {
    let of = |p: &Package| {
        let built = p.dependencies.iter().filter(|d| !d.never);
        built.map(|d| Arrow { from: p.name.clone(), to: d.name.clone(), kind: d.kind }).collect::<Vec<_>>()
    };
    packages.iter().flat_map(of).collect()
}

/// What is wrong with this dependency, if anything is.
pub fn fault(arrow: &Arrow) -> Option<String> {
    let (from, to) = (arrow.from.as_str(), arrow.to.as_str());
    if BESIDE.contains(&from) {
        return None;
    }
    let Some(floor_from) = floor(from) else {
        return Some(format!("{from} has no floor: give it one in {}", file!()));
    };
    if BESIDE.contains(&to) {
        let tests = arrow.kind == Kind::Dev;
        return (!tests).then(|| format!("{arrow}: only tests may use {to}"));
    }
    if let Some(floor_to) = floor(to)
        && floor_to >= floor_from
    {
        let fault = if floor_to == floor_from { "between siblings" } else { "up" };
        return Some(format!("{arrow}: points {fault} (floor {floor_from} to floor {floor_to})"));
    }
    // Tests may use what they like of other people's crates.
    let listed = |table: &[(&str, &[&str])], default: bool| {
        table.iter().find(|(n, _)| *n == from).map_or(default, |(_, names)| names.contains(&to))
    };
    if arrow.kind == Kind::Normal && !listed(&CLOSED, true) {
        return Some(format!("{arrow}: {from} may only depend on its closed list"));
    }
    if arrow.kind == Kind::Normal && listed(&BARRED, false) {
        return Some(format!("{arrow}: this floor must not be able to open sockets"));
    }
    None
}
