//! The one atomic operation there is on Linux 5.10.

/// Adds `amount` to `counter`: BPF's XADD. Written as the instruction, because a compiler may choose
/// the fetching form, which needs Linux 5.12.
///
/// # Safety
/// `counter` points into a live map value and is 8-byte aligned.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's promise; the instruction touches those eight bytes and no register.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount);
    }
}
