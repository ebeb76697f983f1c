use proptest::prelude::*;
use skillsandbox_common::rule::{NetworkRule, PortRange, Protocols};

use super::*;
use crate::isolate::firewall::{Family, tree};

type Rules = BTreeMap<Network, NetworkRule>;

fn rule(first: u16, last: u16, protocols: u16) -> NetworkRule {
    let mut rule = NetworkRule::default();
    rule.ranges[0] = PortRange {
        first,
        last,
        protocols,
        rule: 1,
    };
    rule
}

fn chains() -> Chains {
    Chains::new("weather-0123abcd")
}

fn content<'a>(
    family: Family,
    name_server: u16,
    listen: &'a NetworkRule,
    rules: &'a Rules,
) -> Content<'a> {
    Content {
        family,
        name_server,
        listen,
        rules,
    }
}

/// All that the chains say.
fn whole(content: &Content<'_>) -> String {
    let tree = tree::plant(
        content.family.every(),
        content.rules.keys().copied().collect(),
    );
    chains().change(content, None, &tree, &BTreeSet::new())
}

#[test]
fn a_chain_lets_the_name_server_and_the_rules_through_and_nothing_else() {
    let four = Rules::from([(
        Network::new([192, 0, 2, 0].into(), 24).unwrap(),
        rule(443, 443, Protocols::TCP),
    )]);
    let six = Rules::from([(
        Network::new("2001:db8::".parse().unwrap(), 32).unwrap(),
        rule(5000, 5009, Protocols::ANY),
    )]);
    let (listen, none) = (rule(8000, 8009, Protocols::TCP), NetworkRule::default());
    assert_eq!(
        whole(&content(Family::V4, 5353, &listen, &four)),
        "*filter\n\
         :SKILLSANDBOX-0123abcd - [0:0]\n\
         -A SKILLSANDBOX-0123abcd -d 127.0.0.1 -p udp --dport 5353 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -d 127.0.0.1 -p tcp --dport 5353 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -p tcp ! --syn --sport 8000:8009 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -d 192.0.2.0/24 -p tcp --dport 443:443 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -p tcp -j REJECT --reject-with tcp-reset\n\
         -A SKILLSANDBOX-0123abcd -j REJECT\n\
         COMMIT\n"
    );
    assert_eq!(
        chains().make(1),
        "*filter\n\
         :SKILLSANDBOX-0123abcd - [0:0]\n\
         -A SKILLSANDBOX-0123abcd -p udp --dport 1 -j REJECT\n\
         -I OUTPUT -m cgroup --path \"/skillsandbox/weather-0123abcd\" -j SKILLSANDBOX-0123abcd\n\
         COMMIT\n"
    );
    assert_eq!(
        whole(&content(Family::V6, 0, &none, &six)),
        "*filter\n\
         :SKILLSANDBOX-0123abcd - [0:0]\n\
         -A SKILLSANDBOX-0123abcd -d 2001:db8::/32 -p tcp --dport 5000:5009 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -d 2001:db8::/32 -p udp --dport 5000:5009 -j ACCEPT\n\
         -A SKILLSANDBOX-0123abcd -p tcp -j REJECT --reject-with tcp-reset\n\
         -A SKILLSANDBOX-0123abcd -j REJECT\n\
         COMMIT\n"
    );
}

#[test]
fn what_is_there_of_the_chains_is_removed_and_nothing_else() {
    let chains = chains();
    let made = "-N SKILLSANDBOX-0123abcd\n-N SKILLSANDBOX-0123abcd-1f\n";
    let jump = "-A OUTPUT -m cgroup --path \"/skillsandbox/weather-0123abcd\" \
        -j SKILLSANDBOX-0123abcd\n";
    let others = "-P INPUT ACCEPT\n-N SKILLSANDBOX-0123abce\n-A OUTPUT -j X\n";
    assert_eq!(chains.remove(others), None);
    let removed = "-F SKILLSANDBOX-0123abcd\n-F SKILLSANDBOX-0123abcd-1f\n\
        -X SKILLSANDBOX-0123abcd\n-X SKILLSANDBOX-0123abcd-1f\n";
    assert_eq!(
        chains.remove(&[others, made].concat()),
        Some(format!("*filter\n{removed}COMMIT\n"))
    );
    let detached = jump.replacen("-A", "-D", 1);
    assert_eq!(
        chains.remove(&[made, others, jump].concat()),
        Some(format!("*filter\n{detached}{removed}COMMIT\n"))
    );
}

#[test]
fn chains_are_closed_as_long_as_they_are_led_to_first_and_refuse_at_the_end() {
    let chains = chains();
    let jump = "-A OUTPUT -m cgroup --path \"/skillsandbox/weather-0123abcd\" \
        -j SKILLSANDBOX-0123abcd\n";
    let another = jump.replace("0123abcd", "0123abce");
    let (accepts, foreign) = (
        "-A SKILLSANDBOX-0123abcd -o lo -j ACCEPT\n",
        "-A OUTPUT -j ACCEPT\n",
    );
    let resets = "-A SKILLSANDBOX-0123abcd -p tcp -j REJECT --reject-with tcp-reset\n";
    let rejects = "-A SKILLSANDBOX-0123abcd -j REJECT --reject-with icmp-port-unreachable\n";
    let are_closed = |parts: &[&str]| chains.are_closed(&parts.concat());
    assert!(are_closed(&[
        &another, jump, foreign, accepts, resets, rejects
    ]));
    assert!(!are_closed(&[accepts, resets, rejects]));
    assert!(!are_closed(&[foreign, jump, accepts, resets, rejects]));
    assert!(!are_closed(&[jump, accepts, resets]));
    assert!(!are_closed(&[&another, accepts, resets, rejects]));
    assert!(!are_closed(&[jump]));
}

/// What iptables has: the lines of each chain.
type Table = BTreeMap<String, Vec<String>>;

/// What `iptables-restore --noflush` does with our text, as far as we use it.
fn restore(table: &mut Table, text: &str) {
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words.as_slice() {
            ["*filter" | "COMMIT"] => {}
            [chain, "-", _] if chain.starts_with(':') => {
                table.insert(chain[1..].to_owned(), Vec::new());
            }
            [action @ ("-A" | "-I"), chain, rule] => {
                if let Some((_, to)) = rule.split_once("-j SKILLSANDBOX") {
                    assert!(table.contains_key(&format!("SKILLSANDBOX{to}")), "{line}");
                }
                let lines = table.get_mut(*chain).expect("a chain that is there");
                match *action {
                    "-A" => lines.push((*rule).to_owned()),
                    _ => lines.insert(0, rule.strip_prefix("1 ").expect("a place").to_owned()),
                }
            }
            ["-X", chain] => {
                assert_eq!(table.remove(*chain), Some(Vec::new()), "{line}");
                let led = |rule: &String| rule.ends_with(&format!(" -j {chain}"));
                assert!(!table.values().flatten().any(led), "{line} is led to");
            }
            _ => panic!("no line of ours: {line}"),
        }
    }
}

/// The lines that a packet comes by, sorted, and how it ends where none lets it out.
fn read(table: &Table, chain: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in &table[chain] {
        match line.split_once(" -j SKILLSANDBOX") {
            Some((_, to)) => lines.extend(read(table, &format!("SKILLSANDBOX{to}"))),
            None => lines.push(line.clone()),
        }
    }
    if chain == chains().name {
        let last = lines.split_off(lines.len() - 2);
        lines.sort();
        lines.extend(last);
    }
    lines
}

fn change() -> impl Strategy<Value = (Network, Option<NetworkRule>)> {
    let address = prop::array::uniform4(prop::sample::select(vec![1u8, 2, 16, 17, 129]));
    let bits = prop::sample::select(vec![8u8, 16, 24, 30, 32, 32, 32, 32, 32, 32]);
    let rule = prop::option::weighted(
        0.8,
        (1u16..3).prop_map(|port| rule(port, port, Protocols::TCP)),
    );
    (address, bits, rule)
        .prop_map(|(address, bits, rule)| (Network::new(address.into(), bits).unwrap(), rule))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changed_chains_say_what_new_ones_would(
        steps in prop::collection::vec((prop::collection::vec(change(), 1..80), prop::bool::weighted(0.1)), 1..12)
    ) {
        let none = NetworkRule::default();
        let (mut rules, mut chains, mut table) = (Rules::new(), chains(), Table::new());
        restore(&mut table, ":SKILLSANDBOX-0123abcd - [0:0]");
        let mut before: Option<Tree> = None;
        for (changes, fails) in steps {
            let mut changed = BTreeSet::new();
            for (network, rule) in changes {
                let old = match rule {
                    Some(rule) => rules.insert(network, rule),
                    None => rules.remove(&network),
                };
                if old != rule {
                    changed.insert(network);
                }
            }
            let content = content(Family::V4, 5353, &none, &rules);
            let tree = tree::plant(Family::V4.every(), rules.keys().copied().collect());
            let text = chains.change(&content, before.as_ref(), &tree, &changed);
            if fails {
                before = None;
                continue;
            }
            restore(&mut table, &text);
            chains.forget_all_but(&tree);
            let mut anew = Table::new();
            restore(&mut anew, &whole(&content));
            prop_assert_eq!(read(&table, &chains.name), read(&anew, &chains.name));
            prop_assert_eq!(table.len(), anew.len());
            before = Some(tree);
        }
    }
}
