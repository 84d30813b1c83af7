//! Secret sets: numbered versions of an agent's secrets, sealed. A release names the one that it runs with.

use super::{Store, StoreError};
use crate::api::control::SecretView;
use sqlx::{FromRow, PgConnection};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// One secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct SealedSecret {
    /// Its name.
    pub name: String,
    /// Nonce and ciphertext.
    pub sealed: Vec<u8>,
    /// Keyed digest of the value: equal values, equal digests.
    pub mac: Vec<u8>,
    /// Whether it was set by hand, and not by a deploy.
    pub by_hand: bool,
}

/// What becomes of an agent's secrets with a new release.
#[derive(Debug, Clone, Copy)]
pub enum SecretChange<'a> {
    /// They stay as they are.
    Keep,
    /// A deploy brings these: what an earlier deploy brought is forgotten, what was set by hand stays.
    Deploy(&'a [SealedSecret]),
    /// Some are set or forgotten by hand, the others stay.
    Edit {
        /// New values.
        set: &'a [SealedSecret],
        /// Names that go.
        unset: &'a [String],
    },
    /// Those of an earlier release, by the number of their set.
    Restore(i32),
}

/// What a change did, by names in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretDiff {
    /// Names whose values came, went or are others.
    pub changed: Vec<String>,
    /// Names that an earlier deploy brought, and this one did not.
    pub forgotten: Vec<String>,
    /// Names that were set by hand and stay as they are.
    pub kept: Vec<String>,
    /// Names that were set by hand to another value than the one that was deployed now.
    pub overwritten: Vec<String>,
}

/// The secrets after a change of `before`, ordered by name. Pure.
pub fn after(before: &[SealedSecret], change: SecretChange<'_>) -> (Vec<SealedSecret>, SecretDiff) {
    let mut now: BTreeMap<&str, SealedSecret> = before.iter().map(|one| (one.name.as_str(), one.clone())).collect();
    let mut diff = SecretDiff::default();
    match change {
        SecretChange::Keep | SecretChange::Restore(_) => {}
        SecretChange::Deploy(deployed) => {
            for one in before {
                match deployed.iter().find(|new| new.name == one.name) {
                    Some(new) if one.by_hand && new.mac != one.mac => diff.overwritten.push(one.name.clone()),
                    Some(_) => {}
                    None if one.by_hand => diff.kept.push(one.name.clone()),
                    None => {
                        diff.forgotten.push(one.name.clone());
                        now.remove(one.name.as_str());
                    }
                }
            }
            for new in deployed {
                put(&mut now, new, false);
            }
        }
        SecretChange::Edit { set, unset } => {
            now.retain(|name, _| !unset.iter().any(|gone| gone == name));
            for new in set {
                put(&mut now, new, true);
            }
        }
    }
    let now: Vec<SealedSecret> = now.into_values().collect();
    diff.changed = differing(before, &now);
    (now, diff)
}

/// Equal values stay as they are sealed, so that an equal set is found to be equal.
fn put<'a>(now: &mut BTreeMap<&'a str, SealedSecret>, new: &'a SealedSecret, by_hand: bool) {
    match now.get_mut(new.name.as_str()) {
        // What a deploy brought does not become a hand's by setting the same value.
        Some(one) if one.mac == new.mac => one.by_hand &= by_hand,
        _ => {
            now.insert(&new.name, SealedSecret { by_hand, ..new.clone() });
        }
    }
}

/// Names whose values differ between two sets, ordered.
pub fn differing(one: &[SealedSecret], other: &[SealedSecret]) -> Vec<String> {
    let by_name = |set: &[SealedSecret]| -> BTreeMap<String, Vec<u8>> {
        set.iter().map(|secret| (secret.name.clone(), secret.mac.clone())).collect()
    };
    let (one, other) = (by_name(one), by_name(other));
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// The number of the set that a change of the agent's secrets starts from: of the rolling rollout under way, else of
/// what serves, else the newest. `$1`: the agent.
const CURRENT: &str = "coalesce(
    (SELECT r.secret_set FROM rollouts o JOIN releases r ON r.id = o.release_id
     WHERE o.agent_id = $1 AND o.state = 'running' AND o.rolling),
    (SELECT r.secret_set FROM agents a JOIN releases r ON r.id = a.serving_release WHERE a.id = $1),
    (SELECT max(number) FROM secret_sets WHERE agent_id = $1), 0)";

impl Store {
    /// The number of the agent's current secret set: the one that a change starts from; 0 where there is none.
    pub async fn current_secret_set(&self, agent: Uuid) -> Result<i32, StoreError> {
        current(&mut *self.pool().acquire().await?, agent).await
    }

    /// The secrets of one of the agent's sets, by name.
    pub async fn list_secrets(&self, agent: Uuid, set: i32) -> Result<Vec<SealedSecret>, StoreError> {
        list(&mut *self.pool().acquire().await?, agent, set).await
    }

    /// Each different value that any of the agent's sets holds: for whoever has to hide them.
    pub async fn list_all_secrets(&self, agent: Uuid) -> Result<Vec<SealedSecret>, StoreError> {
        let sql = "SELECT DISTINCT ON (name, mac) name, sealed, mac, by_hand FROM secret_values WHERE agent_id = $1
                   ORDER BY name, mac";
        Ok(sqlx::query_as(sql).bind(agent).fetch_all(self.pool()).await?)
    }

    /// Whether any of the agent's sets holds a secret of that name.
    pub async fn has_secret(&self, agent: Uuid, name: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT FROM secret_values WHERE agent_id = $1 AND name = $2)";
        Ok(sqlx::query_scalar(sql).bind(agent).bind(name).fetch_one(self.pool()).await?)
    }

    /// Names of the secrets of the agent's current set, and when they changed.
    pub async fn view_secrets(&self, agent: Uuid) -> Result<Vec<SecretView>, StoreError> {
        let sql = format!(
            r#"SELECT name, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), by_hand
               FROM secret_values WHERE agent_id = $1 AND number = {CURRENT} ORDER BY name"#
        );
        let rows: Vec<(String, String, bool)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(agent).fetch_all(self.pool()).await?;
        Ok(rows.into_iter().map(|(name, updated_at, by_hand)| SecretView { name, updated_at, by_hand }).collect())
    }

    /// Gives releases that a server of before has made while this one took over their secret sets, as its table of
    /// secrets is now.
    pub async fn adopt_secrets(&self) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        let agents: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM agents WHERE id IN (SELECT agent_id FROM releases WHERE secret_set IS NULL) ORDER BY id FOR UPDATE",
        )
        .fetch_all(&mut *transaction)
        .await?;
        for agent in agents {
            let before: Vec<SealedSecret> =
                sqlx::query_as("SELECT name, sealed, mac, by_hand FROM secrets WHERE agent_id = $1 ORDER BY name")
                    .bind(agent)
                    .fetch_all(&mut *transaction)
                    .await?;
            let number = insert(&mut transaction, agent, 0, &before).await?;
            sqlx::query("UPDATE releases SET secret_set = $2 WHERE agent_id = $1 AND secret_set IS NULL")
                .bind(agent)
                .bind(number)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

pub(super) async fn current(connection: &mut PgConnection, agent: Uuid) -> Result<i32, StoreError> {
    let sql = format!("SELECT {CURRENT}");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(agent).fetch_one(connection).await?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    agent: Uuid,
    set: i32,
) -> Result<Vec<SealedSecret>, StoreError> {
    let sql = "SELECT name, sealed, mac, by_hand FROM secret_values WHERE agent_id = $1 AND number = $2 ORDER BY name";
    Ok(sqlx::query_as(sql).bind(agent).bind(set).fetch_all(connection).await?)
}

/// Adds a set, inside a transaction that holds the agent's row. Values of the set `before` keep their time.
pub(super) async fn insert(
    connection: &mut PgConnection,
    agent: Uuid,
    before: i32,
    secrets: &[SealedSecret],
) -> Result<i32, StoreError> {
    let number: i32 = sqlx::query_scalar(
        "INSERT INTO secret_sets (agent_id, number)
         SELECT $1, coalesce(max(number), 0) + 1 FROM secret_sets WHERE agent_id = $1 RETURNING number",
    )
    .bind(agent)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO secret_values (agent_id, number, name, sealed, mac, by_hand, updated_at)
         SELECT $1, $2, n.name, n.sealed, n.mac, n.by_hand, coalesce(b.updated_at, now())
         FROM UNNEST($4::text[], $5::bytea[], $6::bytea[], $7::bool[]) AS n(name, sealed, mac, by_hand)
         LEFT JOIN secret_values b ON b.agent_id = $1 AND b.number = $3 AND b.name = n.name AND b.mac = n.mac",
    )
    .bind(agent)
    .bind(number)
    .bind(before)
    .bind(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
    .bind(secrets.iter().map(|one| one.sealed.as_slice()).collect::<Vec<_>>())
    .bind(secrets.iter().map(|one| one.mac.as_slice()).collect::<Vec<_>>())
    .bind(secrets.iter().map(|one| one.by_hand).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(number)
}

/// Notes whose the values of a set are now: that is no change of the set.
pub(super) async fn set_origins(
    connection: &mut PgConnection,
    agent: Uuid,
    set: i32,
    secrets: &[SealedSecret],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE secret_values v SET by_hand = n.by_hand FROM UNNEST($3::text[], $4::bool[]) AS n(name, by_hand)
         WHERE v.agent_id = $1 AND v.number = $2 AND v.name = n.name AND v.by_hand <> n.by_hand",
    )
    .bind(agent)
    .bind(set)
    .bind(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
    .bind(secrets.iter().map(|one| one.by_hand).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces a value in every set that holds its name. Says in how many it was another.
pub(super) async fn replace_everywhere(
    connection: &mut PgConnection,
    agent: Uuid,
    secret: &SealedSecret,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE secret_values SET sealed = $3, mac = $4, updated_at = now()
         WHERE agent_id = $1 AND name = $2 AND mac <> $4",
    )
    .bind(agent)
    .bind(&secret.name)
    .bind(&secret.sealed)
    .bind(&secret.mac)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str, by_hand: bool) -> SealedSecret {
        SealedSecret { name: name.into(), sealed: format!("sealed {value}").into(), mac: value.into(), by_hand }
    }

    fn shown(set: &[SealedSecret]) -> Vec<String> {
        let one = |one: &SealedSecret| {
            format!("{}={}{}", one.name, String::from_utf8_lossy(&one.mac), if one.by_hand { " hand" } else { "" })
        };
        set.iter().map(one).collect()
    }

    #[test]
    fn a_deploy_forgets_its_own_and_leaves_what_was_set_by_hand() {
        let before = [one("A", "1", false), one("B", "2", true), one("C", "2", true), one("D", "4", true)];
        let deployed = [one("B", "1", false), one("D", "4", false), one("E", "5", false)];
        let (now, diff) = after(&before, SecretChange::Deploy(&deployed));
        assert_eq!(shown(&now), ["B=1", "C=2 hand", "D=4", "E=5"]);
        let wanted = SecretDiff {
            changed: ["A", "B", "E"].map(str::to_owned).to_vec(),
            forgotten: vec!["A".into()],
            kept: vec!["C".into()],
            overwritten: vec!["B".into()],
        };
        assert_eq!(diff, wanted);
        // Sealed anew each time: only the digest tells whether a value is the same.
        let again = [one("B", "1", false), one("D", "4", false), one("E", "5", false)];
        assert!(after(&now, SecretChange::Deploy(&again)).1.changed.is_empty());
    }

    #[test]
    fn an_edit_touches_what_it_names() {
        let before = [one("A", "1", false), one("B", "2", false)];
        let set = [one("A", "1", true), one("C", "3", true)];
        let unset = ["B".to_owned(), "none".to_owned()];
        let (now, diff) = after(&before, SecretChange::Edit { set: &set, unset: &unset });
        assert_eq!(shown(&now), ["A=1", "C=3 hand"]);
        assert_eq!(diff.changed, ["B", "C"]);
        // What is set and unset at once is set.
        let (now, _) = after(&before, SecretChange::Edit { set: &set, unset: &["A".to_owned()] });
        assert_eq!(shown(&now), ["A=1 hand", "B=2", "C=3 hand"]);
        assert_eq!(after(&before, SecretChange::Keep).0, before);
    }
}
