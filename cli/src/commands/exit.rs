//! Exit codes, and which error leads to which. Decides what a script can tell apart; prints
//! nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use overlan::program::socket::{BindError, CallError, RefusalKind};
use overlan::program::state::StateError;
use overlan_protocol::api::ProblemKind;
use overlan_transport::ConnectError;
use overlan_transport::https::HttpsError;

/// The exit code of the program. Scripts depend on the numbers: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It is done.
    Ok = 0,
    /// It failed in a way without a number of its own.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No `overlan up` runs.
    NotRunning = 3,
    /// There is no valid enrolment, session or key.
    NeedsLogin = 4,
    /// An admin has to let this device in.
    PendingApproval = 5,
    /// Policy or permissions forbid it.
    Denied = 6,
    /// It took too long.
    TimedOut = 7,
    /// The controller cannot be reached.
    ControllerUnreachable = 8,
    /// No relay can be reached.
    RelayUnreachable = 9,
    /// A door of this device lets nobody in: all its places are taken.
    Full = 10,
}

impl Code {
    /// Its word in JSON documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Other => "other",
            Self::Usage => "usage",
            Self::NotRunning => "not-running",
            Self::NeedsLogin => "needs-login",
            Self::PendingApproval => "pending-approval",
            Self::Denied => "denied",
            Self::TimedOut => "timed-out",
            Self::ControllerUnreachable => "controller-unreachable",
            Self::RelayUnreachable => "relay-unreachable",
            Self::Full => "full",
        }
    }

    /// Reads the exit code of another run of this program.
    pub(crate) fn from_exit(code: Option<i32>) -> Self {
        let all = [
            Self::Ok,
            Self::Usage,
            Self::NotRunning,
            Self::NeedsLogin,
            Self::PendingApproval,
            Self::Denied,
            Self::TimedOut,
            Self::ControllerUnreachable,
            Self::RelayUnreachable,
            Self::Full,
        ];
        let known = all.into_iter().find(|known| Some(*known as i32) == code);
        known.unwrap_or(Self::Other)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A command that failed: its exit code, the error, and what to do next where the error itself does
/// not say it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: Box<dyn Error + Send + Sync>,
    next: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code,
            error: error.into(),
            next: None,
        }
    }

    /// The command line is wrong in a way that the parser cannot see.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Code::Usage, text.into())
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn next(mut self, text: impl Into<String>) -> Self {
        self.next = Some(text.into());
        self
    }

    /// Adds the next step, if there is one.
    #[must_use]
    pub(crate) fn next_if(self, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.next(text),
            None => self,
        }
    }

    /// A command line that the parser refuses, in its words without its way of showing them.
    pub(crate) fn wrong_line(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        Self::usage(what.trim()).next(words.join(" "))
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Says what happened and why: the whole chain in one line. A cause that its error's text
    /// already holds is not repeated.
    pub(crate) fn message(&self) -> String {
        let mut last = self.error.to_string();
        let mut message = last.clone();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !last.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
                last = text;
            }
            cause = error.source();
        }
        message
    }

    /// Says what to do next, if the message does not.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

/// The message, and below it what to do next.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match self.hint() {
            Some(next) => write!(f, "\n{next}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Code::Other, error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::new(Code::Other, error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::new(Code::Other, error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::NotRunning(_) | CallError::Ended => Code::NotRunning,
            CallError::TimedOut(_) => Code::TimedOut,
            CallError::Refused(refusal) => match refusal.kind {
                RefusalKind::ControllerUnreachable => Code::ControllerUnreachable,
                RefusalKind::Denied => Code::Denied,
                RefusalKind::TimedOut => Code::TimedOut,
                RefusalKind::RelayUnreachable => Code::RelayUnreachable,
                RefusalKind::Stopping => Code::NotRunning,
                RefusalKind::NotUnderstood | RefusalKind::Conflict | RefusalKind::Failed => {
                    Code::Other
                }
            },
            CallError::NotOurs(_) | CallError::NotUnderstood(_) | CallError::Io { .. } => {
                Code::Other
            }
        };
        let next = match &error {
            CallError::Refused(refusal) => refusal.next.clone(),
            CallError::NotRunning(_)
            | CallError::Ended
            | CallError::TimedOut(_)
            | CallError::NotOurs(_)
            | CallError::NotUnderstood(_)
            | CallError::Io { .. } => None,
        };
        Self {
            next,
            ..Self::new(code, error)
        }
    }
}

impl From<HttpsError> for Failure {
    fn from(error: HttpsError) -> Self {
        let code = match &error {
            HttpsError::Connect(_) | HttpsError::Broken(_) | HttpsError::TimedOut(_) => {
                Code::ControllerUnreachable
            }
            HttpsError::NotUnderstood(_) => Code::Other,
            HttpsError::Problem(problem) => problem_code(problem.kind),
        };
        let is_away = match &error {
            HttpsError::Connect(ConnectError::WrongServer { .. }) => false,
            HttpsError::Connect(_) => true,
            HttpsError::Broken(_)
            | HttpsError::TimedOut(_)
            | HttpsError::NotUnderstood(_)
            | HttpsError::Problem(_) => false,
        };
        match is_away {
            true => Self::new(code, format!("the controller is not reached: {error}")).next(
                "Does it run, and is this its address? `overlan netcheck` shows what an \
                    enrolled device reaches.",
            ),
            false => Self::new(code, error),
        }
    }
}

fn problem_code(kind: ProblemKind) -> Code {
    match kind {
        ProblemKind::WrongPassword
        | ProblemKind::NotAuthenticated
        | ProblemKind::KeyUnknown
        | ProblemKind::KeyExpired
        | ProblemKind::KeyUsed
        | ProblemKind::KeyRevoked
        | ProblemKind::TokenRefused
        | ProblemKind::DeviceRemoved
        | ProblemKind::DeviceUnknown
        | ProblemKind::DeviceExpired
        | ProblemKind::RelayUnknown => Code::NeedsLogin,
        ProblemKind::ChooseOrganisation => Code::Usage,
        ProblemKind::Forbidden | ProblemKind::DeviceDisabled => Code::Denied,
        ProblemKind::Unavailable | ProblemKind::IssuerUnreachable => Code::ControllerUnreachable,
        ProblemKind::BadRequest
        | ProblemKind::SetupRefused
        | ProblemKind::NotFound
        | ProblemKind::NameTaken
        | ProblemKind::Conflict
        | ProblemKind::PolicyRefused
        | ProblemKind::PolicyChanged
        | ProblemKind::UnknownNetwork
        | ProblemKind::TooMany
        | ProblemKind::Internal
        | ProblemKind::Other => Code::Other,
    }
}

#[cfg(test)]
mod tests;
