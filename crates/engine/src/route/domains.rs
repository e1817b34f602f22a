//! Which virtual host serves a host name: exact, then `*suffix` (longest first), then `prefix*` (longest first), then
//! `*` (Envoy's order, `VirtualHost.domains`). Names compare without regard to case.

use nuncio_core::error::BuildResult;
use std::collections::{BTreeMap, HashMap};

/// Virtual hosts by domain; the values are their indices.
#[derive(Default)]
pub struct Domains {
    exact: HashMap<Vec<u8>, usize>,
    /// By length, longest first when iterated in reverse.
    suffix: BTreeMap<usize, HashMap<Vec<u8>, usize>>,
    prefix: BTreeMap<usize, HashMap<Vec<u8>, usize>>,
    any: Option<usize>,
}

impl Domains {
    /// Adds a domain.
    ///
    /// # Errors
    /// It stands twice in the configuration.
    pub fn insert(&mut self, domain: &str, host: usize, config: &str) -> BuildResult<()> {
        let d = domain.to_ascii_lowercase().into_bytes();
        let twice = match (d.strip_prefix(b"*"), d.strip_suffix(b"*")) {
            (Some(b""), _) => {
                if self.any.replace(host).is_some() {
                    return Err(
                        format!("Only a single wildcard domain is permitted in route {config}").into()
                    );
                }
                false
            }
            (Some(s), _) => self.suffix.entry(s.len()).or_default().insert(s.to_vec(), host).is_some(),
            (_, Some(p)) => self.prefix.entry(p.len()).or_default().insert(p.to_vec(), host).is_some(),
            _ => self.exact.insert(d.clone(), host).is_some(),
        };
        if twice {
            return Err(format!(
                "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {config}"
            )
            .into());
        }
        Ok(())
    }
    /// The virtual host of a request that does not say which: when there is but one for all.
    pub fn only_any(&self) -> Option<usize> {
        self.any.filter(|_| self.exact.is_empty() && self.suffix.is_empty() && self.prefix.is_empty())
    }
    /// The virtual host for a request's authority.
    pub fn find(&self, authority: &[u8], ignore_port: bool) -> Option<usize> {
        if self.exact.is_empty() && self.suffix.is_empty() && self.prefix.is_empty() {
            return self.any;
        }
        let mut host = authority.to_ascii_lowercase();
        if ignore_port
            && let Some(i) = host.iter().rposition(|b| *b == b':')
            && !host[i..].contains(&b']')
        {
            host.truncate(i);
        }
        if let Some(i) = self.exact.get(&host) {
            return Some(*i);
        }
        // A wildcard stands for at least one character.
        let longest = |m: &BTreeMap<usize, HashMap<Vec<u8>, usize>>, cut: &dyn Fn(usize) -> Vec<u8>| {
            m.range(..host.len()).rev().find_map(|(n, m)| m.get(&cut(*n)).copied())
        };
        longest(&self.suffix, &|n| host[host.len() - n..].to_vec())
            .or_else(|| longest(&self.prefix, &|n| host[..n].to_vec()))
            .or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_order() {
        let mut d = Domains::default();
        for (i, name) in
            ["*", "www.foo.com", "*.foo.com", "*-bar.foo.com", "foo.*", "foo.b*"].iter().enumerate()
        {
            d.insert(name, i, "rc").expect("a new domain");
        }
        for (host, want) in [
            ("www.foo.com", 1),
            ("WWW.FOO.com", 1),
            ("a.foo.com", 2),
            ("a-bar.foo.com", 3),
            ("foo.net", 4),
            ("foo.bar", 5),
            (".foo.com", 0),
            ("other", 0),
        ] {
            assert_eq!(d.find(host.as_bytes(), false), Some(want), "{host}");
        }
        assert_eq!(d.find(b"www.foo.com:80", true), Some(1));
        assert_eq!(d.only_any(), None);
        assert_eq!(d.find(b"www.foo.com:80", false), Some(0));
        assert!(d.insert("*", 9, "rc").is_err() && d.insert("Foo.*", 9, "rc").is_err());
    }
}
