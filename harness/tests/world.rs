//! A world without enforcement: every action against every server, the three counts compared, and
//! nothing left behind. Needs root.

#[path = "world/agents.rs"]
mod agents;
#[path = "world/life.rs"]
mod life;
#[path = "world/programs.rs"]
mod programs;
#[path = "world/stage.rs"]
mod stage;
#[path = "world/traffic.rs"]
mod traffic;

use harness::reexec;
use libtest_mimic::{Arguments, Trial};

type Test = fn() -> stage::Outcome;

fn main() {
    if reexec::role().is_some() {
        return;
    }
    if std::env::args().nth(1).as_deref() == Some(life::VICTIM) {
        life::victim();
    }
    let tests: [(&str, Test); _] = [
        ("bytes_agree_for_every_size_and_family", traffic::bytes_agree),
        ("udp_by_every_call", traffic::udp_by_every_call),
        ("udp_servers", traffic::udp_servers),
        ("datagrams_in_fragments", traffic::datagrams_in_fragments),
        ("a_late_answer_is_no_packet_of_the_agent", traffic::late_answer),
        ("refused", traffic::refused),
        ("silent", traffic::silent),
        ("ends", traffic::ends),
        ("held", traffic::held),
        ("resolve", traffic::resolve),
        ("programs", programs::programs),
        ("web", programs::web),
        ("a_real_server_program", programs::server_program),
        ("a_server_program_that_does_not_serve", programs::broken_server_programs),
        ("capabilities", agents::capabilities),
        ("root_keeps_dockers_capabilities", agents::root_agent),
        ("an_agent_lives_in_its_own_place", agents::own_place),
        ("nothing_remains", life::nothing_remains),
        ("eight_worlds_at_once", life::eight_worlds),
        ("time_outs_end_the_process_group", programs::time_out),
        ("errors_name_the_cause", life::errors),
        ("sweep_takes_what_the_dead_left", life::sweeps),
        ("a_kept_world_stays", life::kept),
        ("fast_enough", life::fast_enough),
    ];
    let trials = tests.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
