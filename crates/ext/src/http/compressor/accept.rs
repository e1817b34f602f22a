//! Which encoding a response gets: what the client accepts, and what the compressors of the chain have to offer.

use super::Config;
use nuncio_core::filter_state::StateObject;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// The compressors of a chain, and what they have agreed on: an object in the filter state.
#[derive(Default)]
pub struct Chain {
    /// In the order of the chain.
    pub members: RefCell<Vec<(Arc<Config>, &'static str)>>,
    /// Decided by the first that is asked.
    pub decision: Cell<Option<Decision>>,
}

impl StateObject for Chain {}

/// An encoding, and how it was come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// `gzip` and the like, or `identity`.
    pub encoding: &'static str,
    /// For the stats.
    pub how: How,
}

/// How it was come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The header names nothing that can be had.
    NotValid,
    /// The header prefers no encoding.
    Identity,
    /// The header takes any.
    Wildcard,
    /// The header names it.
    Named,
}

/// `offers` are encodings in the order of the chain, with `choose_first`; `accept` is the header.
pub fn choose(accept: &str, mut offers: Vec<(&'static str, bool)>) -> Decision {
    let none = Decision { encoding: "identity", how: How::NotValid };
    let mut wanted = vec![];
    for token in accept.split(',').filter(|t| !t.is_empty()) {
        let (name, params) = token.split_once(';').map_or((token, None), |(n, p)| (n, Some(p)));
        let name = name.trim();
        let mut q = 1.0f32;
        if let Some((key, value)) = params.and_then(|p| p.split_once('='))
            && key.trim().eq_ignore_ascii_case("q")
        {
            let Ok(n) = value.trim().parse() else { continue };
            q = n;
        }
        if q == 0.0 {
            offers.retain(|o| o.0 != name);
        }
        wanted.push((name, q));
    }
    if wanted.is_empty() || offers.is_empty() {
        return none;
    }
    let mut choice = ("identity", 0.0f32);
    for (name, q) in wanted {
        let offer = offers.iter().find(|o| o.0 == name);
        if (offer.is_some() || name == "identity" || name == "*")
            && (q > choice.1 || (q == choice.1 && offer.is_some_and(|o| o.1)))
        {
            choice = (name, q);
        }
    }
    match choice {
        (_, 0.0) => none,
        ("identity", _) => Decision { encoding: "identity", how: How::Identity },
        ("*", _) => Decision { encoding: offers[0].0, how: How::Wildcard },
        (name, _) => match offers.iter().find(|o| o.0 == name) {
            Some(o) => Decision { encoding: o.0, how: How::Named },
            None => none,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let offers = || vec![("br", false), ("gzip", false)];
        let of = |accept: &str| {
            let d = choose(accept, offers());
            (d.encoding, d.how)
        };
        assert_eq!(of("gzip"), ("gzip", How::Named));
        assert_eq!(of("gzip, br"), ("gzip", How::Named));
        assert_eq!(of("gzip;q=0.5, br;q=0.8"), ("br", How::Named));
        assert_eq!(of("gzip; Q = 0.5 ,br; q=.1"), ("gzip", How::Named));
        assert_eq!(of("*"), ("br", How::Wildcard));
        assert_eq!(of("br;q=0, *"), ("gzip", How::Wildcard));
        assert_eq!(of("identity, gzip;q=0.5"), ("identity", How::Identity));
        assert_eq!(of("identity, gzip"), ("identity", How::Identity));
        assert_eq!(of("deflate"), ("identity", How::NotValid));
        assert_eq!(of("gzip;q=0"), ("identity", How::NotValid));
        assert_eq!(of("gzip;q=x"), ("identity", How::NotValid));
        assert_eq!(of(""), ("identity", How::NotValid));
        assert_eq!(choose("gzip, br", vec![("br", true), ("gzip", false)]).encoding, "br");
        assert_eq!(choose("gzip", vec![]).how, How::NotValid);
    }
}
