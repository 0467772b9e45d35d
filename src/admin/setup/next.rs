//! What is left to do where slurmctld runs.

use std::process::Command;

use super::PUBLISHED;
use crate::config::{ConfiguredKey, KeySource};
use crate::keys::{Algorithm, Kid};

/// A release of Slurm, such as 22.05.
type Release = (u32, u32);
/// From this release on a new JWKS needs no restart. (Those between it and
/// 22.05 were not tried: a restart is right with all.)
const RECONFIGURES: Release = (26, 5);

/// The release of the Slurm that this node has.
pub(super) fn slurm_release() -> Option<Release> {
    let told = Command::new("scontrol").arg("--version").output().ok()?;
    release_in(&String::from_utf8_lossy(&told.stdout))
}

/// As in "slurm 26.05.3" and "slurm-wlm 22.05.8".
fn release_in(told: &str) -> Option<Release> {
    let mut numbers = told.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The words for an administrator.
pub(super) fn steps(
    kid: Option<&Kid>,
    signing: &ConfiguredKey,
    release: Option<Release>,
) -> String {
    let restart = "systemctl restart slurmctld     # and slurmdbd, where tokens are for sacctmgr";
    let (files, parameter) = match (signing.algorithm, &signing.key) {
        (Algorithm::Hs256, KeySource::File(path)) => (
            format!("the same key as on this node, {}", path.display()),
            format!("jwt_key={}", path.display()),
        ),
        (Algorithm::Hs256, KeySource::Credential(_)) => (
            "the same key as on this node".to_owned(),
            "jwt_key=/etc/slurm/jwt_hs256.key".to_owned(),
        ),
        (Algorithm::Rs256, _) => (
            format!(
                "{PUBLISHED}/{}.json of this node, in the same place",
                kid.map_or("<kid>", Kid::as_str)
            ),
            "jwks=/etc/slurm/jwks.json".to_owned(),
        ),
    };
    let merge = match signing.algorithm {
        Algorithm::Rs256 => {
            format!("  slurm-tokenctl jwks merge {PUBLISHED} --out /etc/slurm/jwks.json\n")
        }
        Algorithm::Hs256 => String::new(),
    };
    let take = match release {
        Some(release) if release >= RECONFIGURES && signing.algorithm == Algorithm::Rs256 => {
            format!("  {restart}\n  scontrol reconfigure            # is enough for later keys")
        }
        _ => format!("  {restart}"),
    };
    format!(
        "\nNext, where slurmctld runs: {files}. Then, in slurm.conf and slurmdbd.conf:\n  \
           AuthAltTypes=auth/jwt\n  \
           AuthAltParameters={parameter}\nand:\n{merge}{take}\n\
         Try it, as a user of this node: slurm-token whoami\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signing(algorithm: Algorithm) -> ConfiguredKey {
        ConfiguredKey {
            key: KeySource::File("/etc/slurm/jwt_hs256.key".into()),
            algorithm,
            kid: None,
        }
    }

    #[test]
    fn releases_are_read_as_slurm_tells_them() {
        assert_eq!(release_in("slurm-wlm 22.05.8\n"), Some((22, 5)));
        assert_eq!(release_in("slurm 26.05.3"), Some((26, 5)));
        assert_eq!(release_in("scontrol: error"), None);
    }

    #[test]
    fn only_a_release_that_can_takes_keys_by_reconfigure() {
        let rs256 = signing(Algorithm::Rs256);
        assert!(!steps(None, &rs256, Some((22, 5))).contains("reconfigure"));
        assert!(!steps(None, &rs256, None).contains("reconfigure"));
        assert!(steps(None, &rs256, Some((26, 5))).contains("reconfigure"));
    }

    #[test]
    fn a_shared_secret_is_never_published() {
        let words = steps(None, &signing(Algorithm::Hs256), None);
        assert!(words.contains("jwt_key=/etc/slurm/jwt_hs256.key"));
        assert!(!words.contains("jwks"));
    }
}
