//! A client's status for people: a header, this device, its peers, then its connections. Decides
//! the order, and the columns that fit a width; knows no terminal.

use std::net::IpAddr;

use overlan_plane::engine::Presence;
use overlan_protocol::UnixTime;

use super::{LinkState, PeerStatus, State, Status, first_of, line, printable, traffic, trip};

/// Settings by which a status is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Longest line, characters; `None` for no limit.
    pub columns: Option<usize>,
    /// True if counters of packets, waits and drops are shown.
    pub verbose: bool,
    /// True if colours are used.
    pub colour: bool,
}

/// The colour of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Waiting,
    Bad,
}

impl Tone {
    fn of(state: State) -> Self {
        match state {
            State::Running => Self::Good,
            State::Starting | State::PendingApproval | State::Connecting => Self::Waiting,
            State::NeedsLogin | State::Disabled | State::Expired | State::Stopped => Self::Bad,
        }
    }

    fn of_link(state: LinkState) -> Self {
        match state {
            LinkState::Connected => Self::Good,
            LinkState::Connecting | LinkState::Waiting => Self::Waiting,
            LinkState::Idle => Self::Plain,
        }
    }
}

impl View {
    /// Writes `text` in the colour of `tone`, by the codes of ECMA-48.
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Waiting => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A row of the table: address, name, state, relay.
struct Row {
    cells: [String; 4],
    tone: Tone,
}

impl Status {
    /// Writes the text for people at the time `now`. It ends with a line break.
    #[must_use]
    pub fn table(&self, now: UnixTime, view: View) -> String {
        let mut text = String::new();
        let (state, rest) = self.header();
        wrapped(
            &mut text,
            "",
            &format!("{state}{rest}"),
            view.columns,
            |part| match part.strip_prefix(state) {
                Some(rest) => view.paint(Tone::of(self.state), state) + rest,
                None => part.to_owned(),
            },
        );
        let (own, peers) = (self.own_rows(), self.peer_rows());
        let fitted = fit(&own, &peers, self.domain.as_deref(), view.columns);
        for rows in [&own, &peers] {
            if !rows.is_empty() {
                text.push('\n');
                text.push_str(&fitted.text(rows, view));
            }
        }
        text.push('\n');
        for (label, words, tone) in self.lines(now, view.verbose) {
            entry(&mut text, label, &words, tone, view);
        }
        for complaint in self.complaints() {
            wrapped(&mut text, "# ", &complaint, view.columns, |text| {
                view.paint(Tone::Waiting, text)
            });
        }
        text
    }

    /// Returns the state in words, and the rest of the first line: home relay and peers.
    fn header(&self) -> (&'static str, String) {
        let state = match self.state {
            State::Starting => "starting",
            State::NeedsLogin => "not enrolled any more",
            State::Disabled => "disabled by an admin",
            State::Expired => "expired: it has to prove its right again",
            State::PendingApproval => "waiting for the approval of an admin",
            State::Connecting => "connecting",
            State::Running => "connected",
            State::Stopped => "stopping",
        };
        let mut rest = String::new();
        let home = self.relays.iter().find(|relay| {
            relay.home && relay.state == LinkState::Connected && self.state == State::Running
        });
        if let Some(home) = home {
            rest.push_str(&format!(", home relay {}", printable(&home.name)));
            if let Some(us) = home.trip_us() {
                rest.push_str(&format!(" ({})", trip(us)));
            }
        }
        let peers = self.networks.iter().flat_map(|network| &network.peers);
        let (mut all, mut online) = (0, 0);
        for peer in peers {
            all += 1;
            online += usize::from(peer.online);
        }
        match (self.device.is_some(), all) {
            (false, _) => {}
            (true, 0) => rest.push_str(", no peers yet"),
            (true, _) => rest.push_str(&format!(", {online} of {all} peers online")),
        }
        (state, rest)
    }

    fn own_rows(&self) -> Vec<Row> {
        let own = |addresses: &[IpAddr], name: &str| Row {
            cells: [
                first_of(addresses),
                name.to_owned(),
                "this device".to_owned(),
                self.state.to_string(),
            ],
            tone: Tone::of(self.state),
        };
        let rows: Vec<Row> = self
            .networks
            .iter()
            .map(|network| own(&network.addresses, &network.device))
            .collect();
        match &self.device {
            Some(device) if rows.is_empty() => vec![own(&device.addresses, &device.name)],
            Some(_) | None => rows,
        }
    }

    fn peer_rows(&self) -> Vec<Row> {
        let peers = self.networks.iter().flat_map(|network| &network.peers);
        peers.map(PeerStatus::row).collect()
    }

    /// Returns the lines below the table, each with its label.
    fn lines(&self, now: UnixTime, verbose: bool) -> Vec<(&'static str, String, Tone)> {
        let mut lines = Vec::new();
        let mut plain = Vec::new();
        for relay in &self.relays {
            lines.push(("relay", relay.to_string(), Tone::of_link(relay.state)));
        }
        let control = self.control.text(now);
        lines.push(("control", control, Tone::of_link(self.control.state)));
        if let Some(proxy) = &self.upstream_proxy {
            plain.push(("upstream", proxy.clone()));
        }
        let or_off = |place: Option<std::net::SocketAddr>| {
            place.map_or_else(|| "off".to_owned(), |place| place.to_string())
        };
        plain.push(("socks", or_off(self.socks)));
        plain.push(("dns", or_off(self.dns)));
        let first = self.socks.map(|first| first.to_string());
        let others = |place: &&String| Some(*place) != first.as_ref();
        for place in self.proxies.iter().filter(others) {
            plain.push(("proxy", place.clone()));
        }
        for serve in &self.serves {
            let service = format!(
                "{} {} -> {}{}",
                serve.kind,
                serve.port,
                serve.target,
                serve.remarks()
            );
            plain.push(("serve", service));
        }
        if let Some(certificates) = &self.certificates {
            plain.push(("tls", certificates.to_string()));
        }
        for route in &self.routes {
            plain.push(("route", format!("{} {}", route.offer(), route.state())));
        }
        for peer in self.networks.iter().flat_map(|network| &network.peers) {
            for route in &peer.routes {
                plain.push(("route", format!("{route} by {}", printable(&peer.name))));
            }
        }
        if let Some(memory) = &self.memory {
            plain.push(("memory", memory.to_string()));
        }
        match verbose {
            true => plain.extend(traffic::lines(&self.counters)),
            false => plain.extend(traffic::summary(&self.counters)),
        }
        let plain = plain.into_iter();
        lines.extend(plain.map(|(label, words)| (label, words, Tone::Plain)));
        lines
    }

    /// Returns the troubles, each with the next step.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        match self.state {
            State::NeedsLogin => complaints.push(
                "The controller does not know this device any more: run `overlan logout`, then \
                 `overlan up` to enrol it again."
                    .to_owned(),
            ),
            State::PendingApproval => complaints.push(
                "This device is in no network until an admin approves it (`overlan admin device \
                 approve`); `overlan network list` shows the networks that it may join by itself."
                    .to_owned(),
            ),
            State::Connecting => complaints
                .push("No relay is connected: no peer can be reached until one is.".to_owned()),
            // The controller's own words follow.
            State::Disabled | State::Expired => {}
            State::Starting | State::Running | State::Stopped => {}
        }
        for full in &self.full {
            complaints.push(format!("Full: {full}. {}", full.what_to_do()));
        }
        if self.control.state != LinkState::Connected && self.state == State::Running {
            complaints.push(
                "The controller is not connected: traffic goes on, but changes of the networks do \
                 not arrive."
                    .to_owned(),
            );
        }
        if let Some(error) = &self.control.last_error
            && self.control.state != LinkState::Connected
        {
            complaints.push(format!(
                "Last error of the controller session: {}",
                printable(error)
            ));
        }
        complaints
    }
}

impl PeerStatus {
    fn row(&self) -> Row {
        let (state, tone) = match (self.presence, self.sessions) {
            (Presence::Online, 0) => ("online", Tone::Good),
            (Presence::Online, _) => ("active", Tone::Good),
            (Presence::Offline, _) => ("offline", Tone::Bad),
            (Presence::Unknown, _) => ("unknown", Tone::Plain),
        };
        let relay = match &self.relay {
            Some(relay) => format!("relay {}", printable(relay)),
            None => "-".to_owned(),
        };
        let address = first_of(&self.addresses);
        Row {
            cells: [address, printable(&self.name), state.to_owned(), relay],
            tone,
        }
    }
}

/// The columns that fit the width.
struct Fitted {
    widths: [usize; 4],
    /// The number of columns that are shown.
    shown: usize,
    /// The end of each name that is left out.
    domain: String,
}

/// Chooses the columns that fit. The deployment's domain is left out first, since every command
/// knows the names without it, and then the relays.
fn fit(own: &[Row], peers: &[Row], domain: Option<&str>, columns: Option<usize>) -> Fitted {
    let domain = domain.map(|domain| format!(".{domain}"));
    let wholes = [String::new(), domain.unwrap_or_default()];
    let tries = [(0, 4), (1, 4), (1, 3)];
    let measured = |(which, shown): (usize, usize)| {
        let mut fitted = Fitted {
            widths: [0; 4],
            shown,
            domain: wholes[which].clone(),
        };
        for row in own.iter().chain(peers) {
            for at in 0..shown {
                let len = fitted.cell(row, at).chars().count();
                fitted.widths[at] = fitted.widths[at].max(len);
            }
        }
        fitted
    };
    let fits = |fitted: &Fitted| {
        let wide = fitted.widths.iter().take(fitted.shown).sum::<usize>() + 2 * (fitted.shown - 1);
        columns.is_none_or(|columns| wide <= columns)
    };
    let first = tries.into_iter().map(measured).find(fits);
    first.unwrap_or_else(|| measured((1, 3)))
}

impl Fitted {
    fn cell<'a>(&self, row: &'a Row, at: usize) -> &'a str {
        let cell = row.cells[at].as_str();
        match at {
            1 => cell.strip_suffix(self.domain.as_str()).unwrap_or(cell),
            _ => cell,
        }
    }

    fn text(&self, rows: &[Row], view: View) -> String {
        let mut text = String::new();
        for row in rows {
            let cells: Vec<String> = (0..self.shown)
                .map(|at| {
                    let last = at + 1 == self.shown;
                    let width = if last { 0 } else { self.widths[at] };
                    let cell = format!("{:<width$}", self.cell(row, at));
                    match at {
                        2 => view.paint(row.tone, &cell),
                        _ => cell,
                    }
                })
                .collect();
            line(&mut text, format_args!("{}", cells.join("  ")));
        }
        text
    }
}

/// Writes a line with its label, in the colour of `tone`.
fn entry(text: &mut String, label: &str, words: &str, tone: Tone, view: View) {
    let label = format!("{label:<LABEL$}");
    wrapped(text, &label, words, view.columns, |part| {
        view.paint(tone, part)
    });
}

/// Writes `words` after `label`, in lines of at most `columns` characters if words allow it.
fn wrapped(
    text: &mut String,
    label: &str,
    words: &str,
    columns: Option<usize>,
    paint: impl Fn(&str) -> String,
) {
    let width = columns.map_or(usize::MAX, |columns| {
        columns.saturating_sub(label.chars().count()).max(WORDS_MIN)
    });
    let mut begin = label.to_owned();
    let mut write = |part: &str| {
        line(text, format_args!("{begin}{}", paint(part)));
        begin = " ".repeat(label.chars().count());
    };
    let mut part = String::new();
    for word in words.split(' ') {
        let len = part.chars().count();
        if len > 0 && len + 1 + word.chars().count() > width {
            write(&part);
            part.clear();
        }
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
    }
    write(&part);
}

/// Width of labels, a space included.
const LABEL: usize = 9;

/// Narrowest text after a label, characters: on a narrower terminal, lines break by themselves.
const WORDS_MIN: usize = 20;
