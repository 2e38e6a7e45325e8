//! What a user meets when something is wrong: exit codes and messages, and traffic that survives.
