//! What a hostile skill tries: outside a sandbox it gets what it wants; inside it does not, with all
//! layers and with each single one that is said to hold it.

use skillsandbox_attacks::{Layer, all};
use skillsandbox_tests::attacks::{Layers, Results, Verdict};

#[test]
fn outside_a_sandbox_every_attack_gets_what_it_wants() {
    let results = Results::here();
    let failed: Vec<_> = all()
        .filter(|attack| attack.lacking.is_none())
        .filter(|attack| *results.of(Layers::Outside, attack) != Verdict::Got)
        .map(|attack| (attack.name, results.of(Layers::Outside, attack)))
        .collect();
    assert!(failed.is_empty(), "no attacks: {failed:#?}");
    let possible = results.possible().count();
    assert!(possible >= 120, "{possible} attacks can be tried here");
}

#[test]
fn no_attack_gets_through_all_layers_but_those_that_are_written_down() {
    let results = Results::here();
    let got = |attack: &&&_| *results.of(Layers::All, attack) == Verdict::Got;
    let through: Vec<_> = results.possible().filter(|attack| got(&attack)).collect();
    let unknown: Vec<_> = through
        .iter()
        .filter(|attack| results.known(attack).is_none())
        .collect();
    let names: Vec<_> = unknown.iter().map(|attack| attack.name).collect();
    assert!(names.is_empty(), "{names:#?}");
    let mended: Vec<_> = results
        .possible()
        .filter(|attack| results.known(attack).is_some() && !got(&attack))
        .map(|attack| attack.name)
        .collect();
    assert!(
        mended.is_empty(),
        "take the reason out, these are held: {mended:#?}"
    );
}

#[test]
fn each_layer_holds_by_itself_what_it_is_said_to_hold() {
    let results = Results::here();
    let mut broken = Vec::new();
    for attack in results.possible() {
        for layer in attack.held {
            let Some(layers) = results.alone(*layer) else {
                continue;
            };
            if *results.of(layers, attack) == Verdict::Got {
                broken.push((attack.name, layer));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_attack_is_held_by_two_layers_or_it_is_said_why_not() {
    for attack in all() {
        let said = attack.alone.is_some() || attack.known.is_some();
        assert_eq!(
            said,
            attack.held.len() < 2,
            "{}: {:?}, {:?}",
            attack.name,
            attack.held,
            attack.alone
        );
    }
}

#[test]
fn a_layer_is_not_said_to_hold_what_the_loss_of_privileges_holds_already() {
    let results = Results::here();
    let mut idle = Vec::new();
    for attack in results.possible() {
        let by_privileges = *results.of(Layers::None, attack) != Verdict::Got;
        let said = attack.held == [Layer::Privileges];
        let handed_down = attack.held.is_empty();
        if by_privileges != said && !handed_down {
            idle.push((attack.name, results.of(Layers::None, attack)));
        }
    }
    assert!(idle.is_empty(), "{idle:#?}");
}
