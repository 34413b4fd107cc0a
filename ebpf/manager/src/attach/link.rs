//! What attaches a program to a cgroup.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::{
    pin::PinError,
    programs::{ProgramError, links::FdLink},
    sys::SyscallError,
};
use nix::libc::{self, c_int, c_long};

const BPF_OBJ_PIN: c_int = 6;
const BPF_LINK_CREATE: c_int = 28;

/// A link that attaches a program while it is held, or pinned.
pub(super) enum Link {
    /// As aya makes it.
    Aya(FdLink),
    /// Of a `cgroup/setsockopt` program: aya (0.14) makes one too, but lets nobody have it to pin.
    Own(OwnedFd),
}

impl Link {
    /// Attaches a program to a cgroup, `enum bpf_attach_type` as `attach_type`.
    pub(super) fn create(
        program: BorrowedFd<'_>,
        cgroup: BorrowedFd<'_>,
        attach_type: u32,
    ) -> Result<Self, ProgramError> {
        #[repr(C)]
        struct Create {
            program: c_int,
            target: c_int,
            attach_type: u32,
            flags: u32,
        }
        let create =
            Create { program: program.as_raw_fd(), target: cgroup.as_raw_fd(), attach_type, flags: 0 };
        let link = bpf(BPF_LINK_CREATE, &create)
            .map_err(|io_error| SyscallError { call: "bpf_link_create", io_error })?;
        // SAFETY: the kernel has just made this descriptor for nobody else.
        Ok(Self::Own(unsafe { OwnedFd::from_raw_fd(link) }))
    }

    /// Pins it at `path`.
    pub(super) fn pin(self, path: &Path) -> Result<(), PinError> {
        let link = match self {
            Self::Aya(link) => return link.pin(path).map(drop),
            Self::Own(link) => link,
        };
        #[repr(C)]
        struct Pin {
            path: u64,
            object: c_int,
            flags: u32,
        }
        let text = CString::new(path.as_os_str().as_bytes())
            .map_err(|error| PinError::InvalidPinPath { path: path.to_owned(), error })?;
        let pin = Pin { path: text.as_ptr().expose_provenance() as u64, object: link.as_raw_fd(), flags: 0 };
        bpf(BPF_OBJ_PIN, &pin).map_err(|io_error| SyscallError { call: "BPF_OBJ_PIN", io_error })?;
        Ok(())
    }
}

/// `bpf(2)`, with the part of its attributes that the command reads; the kernel takes the rest for zero.
fn bpf<T>(command: c_int, attributes: &T) -> io::Result<c_int> {
    // SAFETY: attributes are readable for their size, which is what the kernel reads; what they point to outlives the call.
    let answer: c_long =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match c_int::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}
