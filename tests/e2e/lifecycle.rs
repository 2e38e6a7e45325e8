//! Devices over their life: enrolment, restarts, names, keys, removal.
