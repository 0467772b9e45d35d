//! The file system that a private key is on. One that other nodes share makes
//! each of them as powerful as the cluster's root, and its administrators too.

use std::path::Path;

use nix::sys::statfs::statfs;

use crate::keys::file::quoted;
use crate::report::Problem;

/// What the kernel calls file systems that come over a network, by the magic
/// number of statfs(2). FUSE may be one, and nobody can tell.
const SHARED: [(i64, &str); 17] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00c3_6400, "Ceph"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
];

/// The file system that other machines may reach and a file is on, or would be:
/// its name, if it's such a one.
pub(super) fn shared(file: &Path) -> Result<Option<&'static str>, Problem> {
    // Where the file is to be, or as near as there is anything.
    let Some(nearest) = file.ancestors().find(|path| path.exists()) else {
        return Ok(None);
    };
    let status = statfs(nearest).map_err(|errno| {
        Problem::at(
            nearest,
            format!("its file system can't be examined: {}", errno.desc()),
            "see that it is mounted: findmnt -T PATH",
        )
    })?;
    // Some are negative in a signed word of 32 bits.
    #[allow(clippy::cast_lossless, reason = "the type differs between machines")]
    let magic = status.filesystem_type().0 as i64 & 0xffff_ffff;
    let named = SHARED.iter().find(|(number, _)| *number == magic);
    Ok(named.map(|(_, name)| *name))
}

/// Refuses such a place for a private key.
pub(super) fn refuse(key: &Path) -> Result<(), Problem> {
    match shared(key)? {
        None => Ok(()),
        Some(name) => Err(Problem::at(
            key,
            format!("a private key must not be on {name}, which other nodes may share"),
            format!(
                "name a file on a local disk as its key, such as one in a local directory mounted \
                 at {}",
                quoted(Path::new("/etc/slurm/token-keys"))
            ),
        )),
    }
}
