//! Asks other resolvers: those of a zone through the overlay over TCP, those of `--dns-forward`
//! from this host over UDP. Decides in which order, for how long, and what is remembered of them.
//! The caller dials those inside the overlay.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, RecordType};
use overlan_protocol::dns::Via;
use overlan_protocol::key::{NetworkId, random_bytes};
use overlan_protocol::netmap::Netmap;
use overlan_transport::clock::now;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::exchange;
use super::explain::{Explained, ExplainedQuestion, NoQuestion};
use crate::host::dial_times::RESOLVER_TRY;
use crate::names::DialError;
use crate::names::lookup::cache::{Cache, Kept};
use crate::names::lookup::heard::{Heard, Judged, Question};
use crate::names::lookup::walk::{Start, Step, Walk, is_of};
use crate::names::lookup::{self, DnsTransport, Resolvers};

/// The other resolvers of a device, their answers in a cache, and the last result of each.
#[derive(Debug)]
pub(crate) struct Resolver {
    forwards: Vec<SocketAddr>,
    cache: Mutex<Cache>,
    notes: Mutex<BTreeMap<Server, Note>>,
    /// Questions that wait for an answer.
    pending: Mutex<BTreeMap<Resolvers, usize>>,
}

/// The place of one question among those that wait for an answer.
#[derive(Debug)]
struct PendingQuestion<'a> {
    pending: &'a Mutex<BTreeMap<Resolvers, usize>>,
    source: &'a Resolvers,
}

impl<'a> PendingQuestion<'a> {
    /// Takes a place; `None` if too many wait already, of this source or of all.
    fn take(pending: &'a Mutex<BTreeMap<Resolvers, usize>>, source: &'a Resolvers) -> Option<Self> {
        let mut counts = pending.lock();
        let all: usize = counts.values().sum();
        let of_source = counts.get(source).copied().unwrap_or(0);
        if of_source >= SHARE_MAX || all >= PENDING_MAX {
            return None;
        }
        counts.insert(source.clone(), of_source + 1);
        Some(Self { pending, source })
    }
}

impl Drop for PendingQuestion<'_> {
    fn drop(&mut self) {
        let mut counts = self.pending.lock();
        if let Some(count) = counts.get_mut(self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.source);
            }
        }
    }
}

/// Opens connections through the overlay to the resolvers of its zones.
pub(crate) trait DialResolver {
    /// A connection to a resolver.
    type Stream: AsyncRead + AsyncWrite + Unpin;
    /// The attempt to open it.
    type Dialling: Future<Output = Result<Self::Stream, DialError>>;

    /// Dials the resolver `via` in `network`.
    fn dial(&self, network: NetworkId, via: Via) -> Self::Dialling;
}

impl<D, F, S> DialResolver for D
where
    D: Fn(NetworkId, Via) -> F,
    F: Future<Output = Result<S, DialError>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Stream = S;
    type Dialling = F;

    fn dial(&self, network: NetworkId, via: Via) -> F {
        self(network, via)
    }
}

/// A resolver that questions go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    /// Inside the overlay, in this network.
    Inside(NetworkId, Via),
    /// Reached from this host.
    Outside(SocketAddr),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(_, via) => via.fmt(f),
            Self::Outside(address) => address.fmt(f),
        }
    }
}

/// The result of the last question to a resolver.
#[derive(Debug, Clone)]
struct Note {
    at: Instant,
    error: Option<String>,
}

/// One question to other resolvers on the way to an answer.
#[derive(Debug)]
pub(super) struct AskedResolver {
    pub(super) source: Resolvers,
    /// The resolver that answered; `None` = none did.
    pub(super) by: Option<String>,
    /// True if the answer was in the cache.
    pub(super) cached: bool,
    /// The resolvers that did not answer, each with the reason.
    pub(super) errors: Vec<String>,
}

/// The reason why a delegated name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAddress {
    /// There is no such name, or it has no address.
    NoSuchName,
    /// It stands for this name.
    Alias(String),
    /// No resolver answered.
    NobodyAnswers,
}

impl Resolver {
    /// Foreign names are handed on to `forwards`; to nobody if there are none.
    pub(crate) fn new(forwards: Vec<SocketAddr>) -> Self {
        Self {
            forwards,
            cache: Mutex::default(),
            notes: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    pub(crate) fn forwards(&self) -> &[SocketAddr] {
        &self.forwards
    }

    /// Returns the answer to one message, or `None` where silence is the only safe one.
    pub(crate) async fn answer<D: DialResolver>(
        &self,
        query: &[u8],
        netmap: &Netmap,
        transport: DnsTransport,
        dial: D,
    ) -> Option<Vec<u8>> {
        let (answer, _) = self.follow(query, netmap, transport, dial).await?;
        Some(answer)
    }

    /// The same for a person, with the rule that answered.
    pub(crate) async fn explain<D: DialResolver>(
        &self,
        wanted: ExplainedQuestion,
        netmap: &Netmap,
        dial: D,
    ) -> Result<Explained, NoQuestion> {
        let followed = self
            .follow(&wanted.query, netmap, ExplainedQuestion::TRANSPORT, dial)
            .await;
        let (reply, asked) = followed.unwrap_or_default();
        wanted.explain(&reply, &asked, netmap)
    }

    /// Returns the answer, and the questions to other resolvers on the way.
    async fn follow<D: DialResolver>(
        &self,
        query: &[u8],
        netmap: &Netmap,
        transport: DnsTransport,
        dial: D,
    ) -> Option<(Vec<u8>, Vec<AskedResolver>)> {
        let mut walk = match Walk::begin(query, transport) {
            Start::Silence => return None,
            Start::Reply(reply) => return Some((reply, Vec::new())),
            Start::Walk(walk) => walk,
        };
        let mut asked = Vec::new();
        while let Step::Ask(source, question) = walk.step(netmap, !self.forwards.is_empty()) {
            let mut errors = Vec::new();
            let kept = self.ask(&source, &question, &dial, &mut errors).await;
            let (kept, cached) = kept.unzip();
            let heard = kept.as_ref().map(|kept| (&kept.heard, kept.age));
            walk.handle_heard(&source, heard, netmap);
            asked.push(AskedResolver {
                source,
                by: kept.map(|kept| kept.by),
                cached: cached.unwrap_or(false),
                errors,
            });
        }
        Some((walk.finish(), asked))
    }

    /// Returns the addresses of a delegated name: IPv4, or IPv6 if it has no IPv4.
    pub(crate) async fn addresses<D: DialResolver>(
        &self,
        source: &Resolvers,
        name: &str,
        netmap: &Netmap,
        dial: D,
    ) -> Result<Vec<IpAddr>, NoAddress> {
        for kind in [RecordType::A, RecordType::AAAA] {
            let question = Question::of_text(name, kind).ok_or(NoAddress::NoSuchName)?;
            let kept = self.ask(source, &question, &dial, &mut Vec::new()).await;
            let (kept, _) = kept.ok_or(NoAddress::NobodyAnswers)?;
            // A zone decides nothing about a name that is ours or in another zone.
            let (records, alias) = kept.heard.within(|name| {
                is_of(source, name, netmap) || is_of(&Resolvers::Forward, name, netmap)
            });
            let addresses: Vec<IpAddr> = records
                .iter()
                .filter_map(|record| {
                    if let RData::A(v4) = &record.data {
                        Some(v4.0.into())
                    } else if let RData::AAAA(v6) = &record.data {
                        Some(v6.0.into())
                    } else {
                        None
                    }
                })
                .collect();
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            if let Some(alias) = alias {
                let alias = lookup::text_of(alias);
                if alias != name {
                    return Err(NoAddress::Alias(alias));
                }
            }
        }
        Err(NoAddress::NoSuchName)
    }

    /// Asks one resolver after the other until one answers. The flag says that the answer was in
    /// the cache; `errors` gets a line for each resolver that did not answer.
    async fn ask<D: DialResolver>(
        &self,
        source: &Resolvers,
        question: &Question,
        dial: &D,
        errors: &mut Vec<String>,
    ) -> Option<(Kept, bool)> {
        let key = question
            .key()
            .map(|(name, kind)| (source.clone(), name, kind));
        if let Some(key) = &key
            && let Some(kept) = self.cache.lock().get(now(), key, question)
        {
            return Some((kept, true));
        }
        let Some(_place) = PendingQuestion::take(&self.pending, source) else {
            errors.push(format!(
                "{SHARE_MAX} questions to these resolvers, or {PENDING_MAX} to all, already wait \
                 for an answer"
            ));
            return None;
        };
        for server in self.in_order(source) {
            let tried = timeout(RESOLVER_TRY, try_one(&server, question, dial)).await;
            let tried = tried.unwrap_or_else(|_| Err(exchange::no_answer().to_string()));
            let error = tried.as_ref().err().cloned();
            self.note(&server, error);
            match tried {
                Ok(heard) => {
                    let by = server.to_string();
                    if let Some(key) = key {
                        let mut cache = self.cache.lock();
                        cache.put(now(), key, &heard, by.clone());
                    }
                    return Some((Kept { heard, age: 0, by }, false));
                }
                Err(error) => {
                    debug!(%server, %error, "a resolver did not answer");
                    errors.push(format!("{server}: {error}"));
                }
            }
        }
        None
    }

    /// Returns the resolvers of a source in their order; those that failed a moment ago come last.
    fn in_order(&self, source: &Resolvers) -> Vec<Server> {
        let mut servers: Vec<Server> = match source {
            Resolvers::Zone(zone) => {
                let inside = |via: &Via| Server::Inside(zone.network, via.clone());
                zone.via.iter().map(inside).collect()
            }
            Resolvers::Forward => self.forwards.iter().copied().map(Server::Outside).collect(),
        };
        let (now, notes) = (now(), self.notes.lock());
        servers.sort_by_key(|server| {
            notes.get(server).is_some_and(|note| {
                note.error.is_some() && now.saturating_duration_since(note.at) < FAILED_FOR
            })
        });
        servers
    }

    fn note(&self, server: &Server, error: Option<String>) {
        let mut notes = self.notes.lock();
        if notes.len() >= NOTES_MAX && !notes.contains_key(server) {
            let oldest = notes.iter().min_by_key(|(_, note)| note.at);
            if let Some(oldest) = oldest.map(|(server, _)| server.clone()) {
                notes.remove(&oldest);
            }
        }
        let note = Note { at: now(), error };
        notes.insert(server.clone(), note);
    }

    /// Returns whether the resolver answered when it was asked last; `None` if it never was.
    pub(crate) fn last(&self, server: &Server) -> Option<Result<(), String>> {
        let note = self.notes.lock().get(server).cloned()?;
        Some(note.error.map_or(Ok(()), Err))
    }
}

async fn try_one<D: DialResolver>(
    server: &Server,
    question: &Question,
    dial: &D,
) -> Result<Heard, String> {
    let id = u16::from_be_bytes(random_bytes());
    let encode = |transport| {
        let encoded = question.encode(id, transport);
        encoded.ok_or_else(|| "DNS cannot carry the name".to_owned())
    };
    let answer = match server {
        Server::Inside(network, via) => {
            let mut stream = dial
                .dial(*network, via.clone())
                .await
                .map_err(|error| error.to_string())?;
            exchange::stream(&mut stream, &encode(DnsTransport::Tcp)?).await
        }
        Server::Outside(address) => {
            let query = encode(DnsTransport::Udp)?;
            let judged = exchange::udp(*address, &query, |bytes| match question.judge(id, bytes) {
                Judged::Other => None,
                judged @ (Judged::Heard(_) | Judged::Truncated | Judged::Failed(_)) => Some(judged),
            });
            match judged.await {
                Ok(Judged::Heard(heard)) => return Ok(*heard),
                Ok(Judged::Failed(why)) => return Err(why),
                Ok(Judged::Truncated | Judged::Other) => {}
                Err(error) => return Err(error.to_string()),
            }
            match TcpStream::connect(address).await {
                Ok(mut stream) => exchange::stream(&mut stream, &encode(DnsTransport::Tcp)?).await,
                Err(error) => Err(error),
            }
        }
    };
    match answer {
        Ok(bytes) => match question.judge(id, &bytes) {
            Judged::Heard(heard) => Ok(*heard),
            Judged::Failed(why) => Err(why),
            Judged::Truncated | Judged::Other => {
                Err("it answers another question over TCP".to_owned())
            }
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Most resolvers that foreign names are handed on to: the program waits for one after the other.
pub(crate) const FORWARDS_MAX: usize = 3;

/// Questions to other resolvers at the same time: each holds a socket or a connection through the
/// overlay. More are answered SERVFAIL.
const PENDING_MAX: usize = 256;

/// The part of them that one zone, or all foreign names, may have: resolvers that do not answer
/// leave places for those that do.
const SHARE_MAX: usize = 64;

/// Time for which a resolver that failed is asked last.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// Resolvers whose last result is remembered: some networks with all the zones and resolvers that
/// they may have.
const NOTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
