//! Denied attempts past their container's budget of records: counted by what they have in common, so that a
//! flood costs neither the ring nor a single attempt.

use abi::{BUDGET_WINDOW_NS, DENIAL_BUDGET, FOLD_QUOTA, Flow, Fold, FoldKey};
use aya_ebpf::bindings::BPF_NOEXIST;

use crate::{
    atomic, ledger,
    maps::{BUDGETS, FOLDS},
};

/// Whether this denial may have a record of its own.
#[inline(always)]
pub fn within_budget(flow: &Flow) -> bool {
    let Some(budget) = BUDGETS.get_ptr_mut(flow.cgroup_id) else { return true };
    let window = flow.start_ns / BUDGET_WINDOW_NS;
    // SAFETY: a live map value; whole-word reads and writes. Where processors race, some more or fewer records
    // are made, and every attempt is still counted once.
    unsafe {
        if (*budget).window != window {
            (*budget).window = window;
            (*budget).used = 0;
        }
        (*budget).used = (*budget).used.wrapping_add(1);
        (*budget).used <= DENIAL_BUDGET
    }
}

/// Counts a denial with those like it.
#[inline(always)]
pub fn fold(flow: &Flow) {
    ledger::folded(flow.cgroup_id);
    match entry(flow) {
        // SAFETY: a live map value.
        Some(fold) => unsafe {
            (*fold).last_ns = flow.start_ns;
            atomic::add(&raw mut (*fold).count, 1);
        },
        None => ledger::overflow(flow.cgroup_id, flow.hook),
    }
}

/// The entry of denials like this one, made if there is room.
#[inline(always)]
fn entry(flow: &Flow) -> Option<*mut Fold> {
    // SAFETY: a flow holds its key (checked beside `Flow`).
    let key = unsafe { &*(&raw const flow.cgroup_id).cast::<FoldKey>() };
    if let Some(fold) = FOLDS.get_ptr_mut(key) {
        return Some(fold);
    }
    if ledger::fold_keys(flow.cgroup_id) >= FOLD_QUOTA {
        return None;
    }
    // The stack has no room for a value.
    static NEW: Fold = Fold {
        count: 0,
        first_ns: 0,
        last_ns: 0,
        comm: [0; 16],
        pid: 0,
        uid: 0,
        domain: 0,
        socket_family: 0,
        socket_type: 0,
        flags: 0,
    };
    let inserted = FOLDS.insert(key, &NEW, BPF_NOEXIST.into()).is_ok();
    let fold = FOLDS.get_ptr_mut(key)?;
    if inserted {
        ledger::fold_key(flow.cgroup_id);
        // SAFETY: a live map value. Only who inserted it writes these; a reader that comes in between finds
        // them empty once.
        unsafe {
            (*fold).first_ns = flow.start_ns;
            (*fold).comm = flow.comm;
            (*fold).pid = flow.pid;
            (*fold).uid = flow.uid;
            (*fold).domain = flow.domain;
            (*fold).socket_family = flow.socket_family;
            (*fold).socket_type = flow.socket_type;
            (*fold).flags = flow.flags;
        }
    }
    Some(fold)
}
