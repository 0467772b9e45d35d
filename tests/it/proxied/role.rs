//! A location that is for the members of a group.

use super::client::ask;
use super::{NGINX, bearer, slurm, token};
use crate::node::{ALICE, BOB, User};
use crate::slurm::RS256;

/// A member of operators.
const ADMIN: User = User {
    name: "admin",
    uid: 2003,
};

pub fn opens_for_members_only(proxy: &str) {
    let diag = |user: &User| ask(&slurm(proxy, "diag"), &[], &[bearer(&token(user))]);
    let admins = diag(&ADMIN);
    assert_eq!(admins.status, 200, "{admins:?}");
    assert!(admins.json()["statistics"].is_object(), "{admins:?}");
    for user in [ALICE, BOB] {
        let reply = diag(&user);
        assert_eq!(reply.refusal(), (403, "insufficient_role".into()));
    }
    let nobody = ask(&slurm(proxy, "diag"), &[], &[]);
    assert_eq!(
        nobody.refusal(),
        (401, "authorization_header_missing".into())
    );
}

/// Each path here might be the location's to slurmrestd, or to whoever decodes
/// once more or once less than others.
pub fn opens_by_no_other_spelling(proxy: &str) {
    let token = bearer(&token(&ALICE));
    let api = RS256.bed.api();
    for path in [
        format!("/slurm/{api}/diag/"),
        format!("/slurm/{api}/diag//"),
        format!("/slurm/{api}/DIAG"),
        format!("/slurm/{api}/%64iag"),
        format!("/slurm/{api}/%2564iag"),
        format!("/slurm/{api}/diag%2f"),
        format!("/slurm/{api}/diag?"),
        format!("/slurm/{api}/diag?/jobs"),
        format!("/slurm/{api}/diag%3f"),
        format!("/slurm/{api}/diag;a=b"),
        format!("/slurm/{api}/diag%00"),
        format!("/slurm/{api}/diag%20"),
        format!("/slurm/{api}%2fdiag"),
        format!("/slurm%2f{api}/diag"),
        format!("//slurm//{api}//diag"),
        format!("/slurm//{api}/diag"),
        format!("/slurm/./{api}/./diag"),
        format!("/slurm/{api}/jobs/../diag"),
        format!("/slurm/{api}/jobs/%2e%2e/diag"),
        format!("/slurm/{api}/x/..%2fdiag"),
        format!("/SLURM/{api}/diag"),
        format!("/slurm/{}/diag", api.to_uppercase()),
        format!("/x/../slurm/{api}/diag"),
        format!("/slurm/{api}/diag#/jobs"),
    ] {
        let reply = ask(
            &format!("http://{proxy}{path}"),
            &[],
            std::slice::from_ref(&token),
        );
        assert_ne!(reply.status, 200, "{path}: {reply:?}");
        assert!(!reply.body.contains("statistics"), "{path}: {reply:?}");
    }
}

#[test]
fn by_nginx_a_location_opens_for_the_members_of_its_group_only() {
    opens_for_members_only(NGINX.address());
}

#[test]
fn by_nginx_no_other_spelling_of_the_location_opens_it() {
    opens_by_no_other_spelling(NGINX.address());
}
