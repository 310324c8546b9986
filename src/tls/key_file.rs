//! Who may read a private key file.

use crate::{sources::FileFacts, tls::KeyPermissions};

/// What the permissions of a key file lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Private,
    /// Open to others, and used all the same.
    Warn {
        what: String,
        remedy: String,
    },
    /// Open to others, and not used.
    Refuse {
        what: String,
        remedy: String,
    },
}

/// Judges an opened key file by its descriptor.
///
/// A group may read it only where root owns the file and the group is ours: kubelet turns mode 0400 into 0440 when
/// `fsGroup` is set (kubernetes/kubernetes#57923). A Kubernetes volume is warned about, never refused.
pub(super) fn judge(facts: &FileFacts, wanted: KeyPermissions) -> Verdict {
    let Some(what) = open_to(facts) else { return Verdict::Private };
    let owner_is_wrong = facts.owner != 0 && facts.owner != facts.effective_user;
    match wanted {
        _ if facts.projected_volume => Verdict::Warn { what, remedy: "set defaultMode: 0400 on the volume".to_owned() },
        KeyPermissions::Warn => Verdict::Warn { what, remedy: "chmod 600 the key".to_owned() },
        KeyPermissions::Enforce if owner_is_wrong => Verdict::Refuse {
            what,
            remedy: "chown the key to the gateway's user and chmod 600 it, or set key_permissions = \"warn\"".to_owned(),
        },
        KeyPermissions::Enforce => Verdict::Refuse { what, remedy: "chmod 600 the key, or set key_permissions = \"warn\"".to_owned() },
    }
}

fn open_to(facts: &FileFacts) -> Option<String> {
    let mode = facts.mode & 0o777;
    if mode & 0o007 != 0 {
        return Some(format!("everybody can use it (mode {mode:04o})"));
    }
    if mode & 0o020 != 0 {
        return Some(format!("its group can write to it (mode {mode:04o})"));
    }
    if facts.owner != 0 && facts.owner != facts.effective_user {
        return Some(format!(
            "it belongs to user {}, which is neither root nor the gateway's own user {}",
            facts.owner, facts.effective_user
        ));
    }
    if mode & 0o040 != 0 && !(facts.owner == 0 && facts.group_is_ours) {
        return Some(format!("its group can read it (mode {mode:04o})"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: u32, owner: u32) -> FileFacts {
        FileFacts { mode, owner, group: 50, projected_volume: false, effective_user: 1000, group_is_ours: true }
    }

    fn is_refused(facts: FileFacts) -> bool {
        matches!(judge(&facts, KeyPermissions::Enforce), Verdict::Refuse { .. })
    }

    #[test]
    fn a_key_is_for_its_owner_alone() {
        for (mode, owner, refused) in [
            (0o600, 1000, false),
            (0o400, 1000, false),
            (0o400, 0, false),
            (0o440, 0, false),
            (0o640, 0, false),
            (0o440, 1000, true),
            (0o640, 1000, true),
            (0o660, 0, true),
            (0o604, 1000, true),
            (0o601, 1000, true),
            (0o644, 0, true),
            (0o600, 1001, true),
        ] {
            assert_eq!(is_refused(facts(mode, owner)), refused, "mode {mode:o}, owner {owner}");
        }
    }

    #[test]
    fn a_foreign_group_may_not_read_a_key_of_root() {
        assert!(is_refused(FileFacts { group_is_ours: false, ..facts(0o440, 0) }));
    }

    #[test]
    fn a_kubernetes_volume_is_warned_about_and_used() {
        let verdict = judge(&FileFacts { projected_volume: true, ..facts(0o644, 0) }, KeyPermissions::Enforce);
        assert!(matches!(verdict, Verdict::Warn { remedy, .. } if remedy.contains("defaultMode: 0400")));
    }

    #[test]
    fn warn_uses_an_open_key_and_says_so() {
        assert!(matches!(judge(&facts(0o644, 1000), KeyPermissions::Warn), Verdict::Warn { .. }));
        assert_eq!(judge(&facts(0o600, 1000), KeyPermissions::Warn), Verdict::Private);
    }
}
