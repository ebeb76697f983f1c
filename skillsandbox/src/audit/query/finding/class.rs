//! The classes of threats.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Looked at when there is time.
    Medium,
    /// Looked at now.
    High,
}

/// A class of threats.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name in output.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// ATT&CK's number of the technique.
    pub technique: &'static str,
    /// Its name.
    pub technique_name: &'static str,
    /// ATT&CK's number of the tactic.
    pub tactic: &'static str,
    /// Its name.
    pub tactic_name: &'static str,
    /// How bad it is.
    pub severity: Severity,
}

/// All classes.
pub static CLASSES: [Class; 7] = [
    Class {
        name: "credential_exfiltration",
        title: "Credential files were touched, and then a way out was refused",
        technique: "T1041",
        technique_name: "Exfiltration Over C2 Channel",
        tactic: "TA0010",
        tactic_name: "Exfiltration",
        severity: Severity::High,
    },
    Class {
        name: "credential_search",
        title: "Several credential files were refused",
        technique: "T1552.001",
        technique_name: "Credentials In Files",
        tactic: "TA0006",
        tactic_name: "Credential Access",
        severity: Severity::High,
    },
    Class {
        name: "dns_tunnel",
        title: "Many names below one domain were refused",
        technique: "T1071.004",
        technique_name: "DNS",
        tactic: "TA0011",
        tactic_name: "Command and Control",
        severity: Severity::High,
    },
    Class {
        name: "persistence",
        title: "Files that other programs obey were to be written",
        technique: "T1546",
        technique_name: "Event Triggered Execution",
        tactic: "TA0003",
        tactic_name: "Persistence",
        severity: Severity::High,
    },
    Class {
        name: "escape",
        title: "Files were reached for from another mount namespace than the sandbox's",
        technique: "T1611",
        technique_name: "Escape to Host",
        tactic: "TA0004",
        tactic_name: "Privilege Escalation",
        severity: Severity::High,
    },
    Class {
        name: "process_injection",
        title: "Processes outside the sandbox were looked into",
        technique: "T1055.008",
        technique_name: "Ptrace System Calls",
        tactic: "TA0005",
        tactic_name: "Defense Evasion",
        severity: Severity::High,
    },
    Class {
        name: "undeclared_program",
        title: "Programs that are not declared were to be executed",
        technique: "T1059",
        technique_name: "Command and Scripting Interpreter",
        tactic: "TA0002",
        tactic_name: "Execution",
        severity: Severity::Medium,
    },
];
