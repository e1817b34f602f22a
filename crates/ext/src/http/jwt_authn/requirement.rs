//! Which tokens a request needs: of a provider, of any or all of several, or none.

use super::provider::{Location, Provider};
use super::status::Status;
use super::token::Token;
use super::{JwtStats, Providers};
use nuncio_api::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use nuncio_core::{BuildError, BuildResult, Exchange, LocalBoxFuture};
use pb::jwt_requirement::RequiresType;
use prost_types::Struct;
use std::sync::Arc;

/// Deeper requirements are a mistake, or an attack.
const MAX_DEPTH: usize = 32;

/// A compiled `JwtRequirement`.
pub enum Requirement {
    /// A good token of one provider, perhaps for other audiences.
    Provider(Arc<Provider>, Option<Vec<String>>),
    /// Any of these; and whether none, or a bad one, will do as well.
    Any(Vec<Requirement>, Leniency),
    /// All of these.
    All(Vec<Requirement>),
    /// Whoever issued it.
    Lenient(Providers, Leniency),
    /// Nothing.
    Nothing,
}

/// What will do besides a good token.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Leniency {
    missing: bool,
    failed: bool,
}

const MISSING: Leniency = Leniency { missing: true, failed: false };
const FAILED: Leniency = Leniency { missing: true, failed: true };

/// What verified tokens leave behind.
#[derive(Default)]
pub struct Outcome {
    /// Becomes metadata.
    pub extracted: Struct,
    /// The route is to be chosen again.
    pub clear_route_cache: bool,
}

impl Requirement {
    /// From configuration.
    ///
    /// # Errors
    /// It names a provider that is not there.
    pub fn new(r: &pb::JwtRequirement, providers: &Providers) -> BuildResult<Requirement> {
        Requirement::at(r, providers, 0)
    }
    fn at(r: &pb::JwtRequirement, providers: &Providers, depth: usize) -> BuildResult<Requirement> {
        if depth > MAX_DEPTH {
            return Err(BuildError(format!("a requirement is deeper than {MAX_DEPTH}")));
        }
        let provider = |name: &str| {
            let found = providers.iter().find(|(n, _)| n == name).map(|(_, p)| p.clone());
            found.ok_or_else(|| BuildError(format!("Required provider ['{name}'] is not configured.")))
        };
        Ok(match &r.requires_type {
            None => Requirement::Nothing,
            Some(RequiresType::ProviderName(n)) => Requirement::Provider(provider(n)?, None),
            Some(RequiresType::ProviderAndAudiences(p)) => {
                let audiences = (!p.audiences.is_empty()).then(|| p.audiences.clone());
                Requirement::Provider(provider(&p.provider_name)?, audiences)
            }
            Some(RequiresType::RequiresAny(l)) => {
                let (mut all, mut lenient) = (vec![], Leniency::default());
                for r in &l.requirements {
                    match &r.requires_type {
                        Some(RequiresType::AllowMissingOrFailed(_)) => lenient.failed = true,
                        Some(RequiresType::AllowMissing(_)) => lenient.missing = true,
                        _ => all.push(Requirement::at(r, providers, depth + 1)?),
                    }
                }
                if all.is_empty() && lenient != Leniency::default() {
                    all.push(Requirement::Lenient(
                        providers.clone(),
                        if lenient.failed { FAILED } else { MISSING },
                    ));
                }
                Requirement::Any(all, lenient)
            }
            Some(RequiresType::RequiresAll(l)) => {
                let all = l.requirements.iter().map(|r| Requirement::at(r, providers, depth + 1));
                Requirement::All(all.collect::<BuildResult<_>>()?)
            }
            Some(RequiresType::AllowMissingOrFailed(_)) => Requirement::Lenient(providers.clone(), FAILED),
            Some(RequiresType::AllowMissing(_)) => Requirement::Lenient(providers.clone(), MISSING),
            Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
                return Err(BuildError::not_implemented("JwtRequirement.extract_only_without_validation"));
            }
        })
    }

    /// Whether a request has what it needs.
    pub fn check<'a>(
        &'a self,
        ex: &'a mut Exchange,
        out: &'a mut Outcome,
        stats: &'a JwtStats,
    ) -> LocalBoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match self {
                Requirement::Nothing => Ok(()),
                Requirement::Provider(p, audiences) => {
                    let only = [(String::new(), p.clone())];
                    verify(&only, true, audiences.as_deref(), Leniency::default(), ex, out, stats).await
                }
                Requirement::Lenient(all, lenient) => {
                    verify(all, false, None, *lenient, ex, out, stats).await
                }
                Requirement::All(all) => {
                    for r in all {
                        r.check(ex, out, stats).await?;
                    }
                    Ok(())
                }
                Requirement::Any(all, lenient) => {
                    let mut last = Status::Missed;
                    for r in all {
                        match r.check(ex, out, stats).await {
                            Ok(()) => return Ok(()),
                            // What says most of why: neither "missing" nor "unknown issuer", if there is such.
                            Err(s) => {
                                let vague = matches!(s, Status::Missed | Status::UnknownIssuer);
                                if !vague || last == Status::Missed {
                                    last = s;
                                }
                            }
                        }
                    }
                    match last {
                        _ if lenient.failed => Ok(()),
                        Status::Missed if lenient.missing => Ok(()),
                        s => Err(s),
                    }
                }
            }
        })
    }
}

/// Checks the tokens of a request. `named`: the requirement names its one provider.
async fn verify(
    providers: &[(String, Arc<Provider>)],
    named: bool,
    audiences: Option<&[String]>,
    lenient: Leniency,
    ex: &mut Exchange,
    out: &mut Outcome,
    stats: &JwtStats,
) -> Result<(), Status> {
    providers.iter().for_each(|(_, p)| p.sanitize(&mut ex.request));
    let mut places: Vec<&Location> = providers.iter().flat_map(|(_, p)| &p.locations).collect();
    places.sort();
    places.dedup();
    let mut tokens = vec![];
    for place in places {
        let mut here = vec![];
        place.tokens(&ex.request, &mut here);
        tokens.extend(here.into_iter().map(|t| (place, t)));
    }
    let mut result = Err(Status::Missed);
    // All tokens of a request must be good, unless none need be.
    for (place, text) in tokens.into_iter().rev() {
        if named {
            stats.jwt_cache_miss().inc();
        }
        result = one(providers, named, audiences, place, &text, ex, out, stats).await;
        if result.is_err() && lenient == Leniency::default() {
            break;
        }
    }
    match result {
        Err(_) if lenient.failed => Ok(()),
        Err(Status::Missed) if lenient.missing => Ok(()),
        r => r,
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one check, which has one caller")]
async fn one(
    providers: &[(String, Arc<Provider>)],
    named: bool,
    audiences: Option<&[String]>,
    place: &Location,
    text: &str,
    ex: &mut Exchange,
    out: &mut Outcome,
    stats: &JwtStats,
) -> Result<(), Status> {
    let token = Token::read(text)?;
    let here = providers.iter().filter(|(_, p)| p.locations.contains(place));
    if !here.clone().any(|(_, p)| p.issuer.is_empty() || p.issuer == token.issuer) {
        return Err(Status::UnknownIssuer);
    }
    let provider = match named {
        true => providers.first(),
        false => providers
            .iter()
            .find(|(_, p)| p.issuer == token.issuer)
            .or_else(|| providers.iter().find(|(_, p)| p.issuer.is_empty())),
    };
    let Some((_, provider)) = provider else { return Err(Status::UnknownIssuer) };
    provider.check_claims(&token, audiences)?;
    provider.check_signature(&token, stats).await?;
    out.clear_route_cache |= provider.accept(&token, place, ex, &mut out.extracted);
    Ok(())
}
