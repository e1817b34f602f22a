//! Numbers: ranges and fractions.

use crate::error::BuildResult;
use nuncio_api::envoy::r#type::matcher::v3 as matcher;
use nuncio_api::envoy::r#type::v3 as pb;

/// `envoy.type.v3.Int64Range`, half open: `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Int64Range {
    start: i64,
    end: i64,
}

impl Int64Range {
    /// From configuration.
    pub fn new(r: &pb::Int64Range) -> Int64Range {
        Int64Range { start: r.start, end: r.end }
    }
    /// True when `n` lies in the range.
    pub fn matches(&self, n: i64) -> bool {
        (self.start..self.end).contains(&n)
    }
    /// True when `text` is a decimal number, perhaps with blanks around it, that lies in the range.
    pub fn matches_text(&self, text: &[u8]) -> bool {
        let number = std::str::from_utf8(text).ok().and_then(|t| t.trim_ascii().parse().ok());
        number.is_some_and(|n| self.matches(n))
    }
}

/// `envoy.type.matcher.v3.DoubleMatcher`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum DoubleMatcher {
    /// `[start, end)`.
    Range(f64, f64),
    /// One number.
    Exact(f64),
}

impl DoubleMatcher {
    /// From configuration.
    pub fn new(m: &matcher::DoubleMatcher) -> BuildResult<DoubleMatcher> {
        use matcher::double_matcher::MatchPattern as P;
        match &m.match_pattern {
            Some(P::Range(r)) => Ok(DoubleMatcher::Range(r.start, r.end)),
            Some(P::Exact(n)) => Ok(DoubleMatcher::Exact(*n)),
            None => Err("field: \"match_pattern\", reason: is required".into()),
        }
    }
    /// True when `n` matches.
    pub fn matches(&self, n: f64) -> bool {
        match *self {
            DoubleMatcher::Range(start, end) => (start..end).contains(&n),
            DoubleMatcher::Exact(e) => n == e,
        }
    }
}

/// `envoy.type.v3.FractionalPercent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FractionalPercent {
    /// How many of `denominator`.
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl FractionalPercent {
    /// Always.
    pub const ALWAYS: FractionalPercent = FractionalPercent { numerator: 100, denominator: 100 };
    /// Never.
    pub const NEVER: FractionalPercent = FractionalPercent { numerator: 0, denominator: 100 };

    /// From configuration; an unknown denominator is refused by the API's validation before.
    pub fn new(p: &pb::FractionalPercent) -> FractionalPercent {
        use pb::fractional_percent::DenominatorType as D;
        let denominator = match p.denominator() {
            D::Hundred => 100,
            D::TenThousand => 10_000,
            D::Million => 1_000_000,
        };
        FractionalPercent { numerator: p.numerator, denominator }
    }
    /// Decides for a random number, e.g. the one a stream keeps; the same number gives the same answer.
    pub fn matches(&self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions() {
        let p = FractionalPercent::new(&pb::FractionalPercent { numerator: 25, denominator: 1 });
        assert_eq!(
            (p.denominator, p.matches(24), p.matches(25), p.matches(10_024)),
            (10_000, true, false, true)
        );
        assert!(FractionalPercent::ALWAYS.matches(99) && !FractionalPercent::NEVER.matches(0));
        let over = FractionalPercent { numerator: 300, denominator: 100 };
        assert!((0..200).all(|r| over.matches(r)));
        let same = (0..1_000_000).filter(|r| p.matches(*r)).count();
        assert_eq!(same, 2500);
    }

    #[test]
    fn doubles() {
        let r = DoubleMatcher::Range(1.0, 2.0);
        assert!(r.matches(1.0) && !r.matches(2.0) && !r.matches(f64::NAN));
        assert!(DoubleMatcher::Exact(1.5).matches(1.5));
        assert!(DoubleMatcher::new(&Default::default()).is_err());
    }

    #[test]
    fn integers() {
        let r = Int64Range::new(&pb::Int64Range { start: 1, end: 3 });
        assert!(r.matches(1) && !r.matches(3) && r.matches_text(b"2") && !r.matches_text(b"2x"));
    }
}
