//! Response flags: why an exchange went the way it went, as `%RESPONSE_FLAGS%` prints it.

macro_rules! flags {
    ($($name:ident = $short:literal),* $(,)?) => {
        /// One response flag; the names are Envoy's long names.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Flag { $(#[doc = concat!("`", $short, "`")] $name),* }
        impl Flag {
            /// Every flag in Envoy's enum order.
            pub const ALL: &[Flag] = &[$(Flag::$name),*];
            /// `UF` and its like.
            pub fn short(self) -> &'static str { match self { $(Flag::$name => $short),* } }
            /// `UpstreamConnectionFailure` and its like.
            pub fn long(self) -> &'static str { match self { $(Flag::$name => stringify!($name)),* } }
        }
    };
}

flags! {
    FailedLocalHealthCheck = "LH", NoHealthyUpstream = "UH", UpstreamRequestTimeout = "UT", LocalReset = "LR",
    UpstreamRemoteReset = "UR", UpstreamConnectionFailure = "UF", UpstreamConnectionTermination = "UC",
    UpstreamOverflow = "UO", NoRouteFound = "NR", DelayInjected = "DI", FaultInjected = "FI", RateLimited = "RL",
    UnauthorizedExternalService = "UAEX", RateLimitServiceError = "RLSE", DownstreamConnectionTermination = "DC",
    UpstreamRetryLimitExceeded = "URX", StreamIdleTimeout = "SI", InvalidEnvoyRequestHeaders = "IH",
    DownstreamProtocolError = "DPE", UpstreamMaxStreamDurationReached = "UMSDR", ResponseFromCacheFilter = "RFCF",
    NoFilterConfigFound = "NFCF", DurationTimeout = "DT", UpstreamProtocolError = "UPE", NoClusterFound = "NC",
    OverloadManagerTerminated = "OM", DnsResolutionFailed = "DF", DropOverload = "DO", DownstreamRemoteReset = "DR",
    UnconditionalDropOverload = "UDO",
}

impl Flag {
    /// Finds a flag by its short name.
    pub fn from_short(s: &str) -> Option<Flag> {
        Flag::ALL.iter().copied().find(|f| f.short() == s)
    }
}

/// The flags of one stream, in the order they were set (Envoy prints them so).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Flags {
    order: [u8; 12],
    len: u8,
}

impl Flags {
    /// Sets a flag; setting it again changes nothing. More than twelve different flags do not occur on one stream.
    pub fn set(&mut self, f: Flag) {
        if !self.has(f) && (self.len as usize) < self.order.len() {
            self.order[self.len as usize] = f as u8;
            self.len += 1;
        }
    }
    /// True when the flag is set.
    pub fn has(&self, f: Flag) -> bool {
        self.order[..self.len as usize].contains(&(f as u8))
    }
    /// True when none is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// In the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = Flag> + '_ {
        self.order[..self.len as usize].iter().map(|&i| Flag::ALL[i as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_in_the_order_they_were_set() {
        let mut f = Flags::default();
        f.set(Flag::UpstreamRetryLimitExceeded);
        f.set(Flag::UpstreamRequestTimeout);
        f.set(Flag::UpstreamRetryLimitExceeded);
        assert_eq!(f.iter().map(Flag::short).collect::<Vec<_>>(), ["URX", "UT"]);
        assert_eq!(Flag::ALL.len(), 30);
        assert_eq!(Flag::from_short("UAEX"), Some(Flag::UnauthorizedExternalService));
    }
}
