//! Releases: immutable, numbered by agent.

use super::{Store, StoreError};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

/// One release.
#[derive(Debug, Clone, FromRow)]
pub struct Release {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub agent_id: Uuid,
    /// v12 is 12.
    pub version: i32,
    /// Digest of its image.
    pub image: String,
    /// Digest of what the image was made from.
    pub inputs_digest: String,
    /// The manifest as it was deployed.
    pub manifest: Json<serde_json::Value>,
    /// Name of the folder it was in.
    pub folder: String,
    /// The number of its secret set; none only while a server of before hands over.
    pub secret_set: Option<i32>,
    /// What the manifest resolved to when the release was made; none: of a version before 0023.
    pub spec: Option<Json<serde_json::Value>>,
    /// The commit that was built.
    pub source_revision: Option<String>,
    /// Digest of its manifest in the server's registry, where it came through that.
    pub pushed: Option<String>,
}

impl Release {
    /// Whether it is the same but for its secrets.
    pub fn has_content_of(&self, new: &NewRelease) -> bool {
        self.image == new.image && self.inputs_digest == new.inputs_digest && self.manifest.0 == new.manifest
    }
}

/// What a new release is made from.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// Digest of its image.
    pub image: String,
    /// Digest of what the image was made from.
    pub inputs_digest: String,
    /// The manifest as it was read.
    pub manifest: serde_json::Value,
    /// Name of the folder it was in.
    pub folder: String,
    /// What it resolves to.
    pub spec: serde_json::Value,
    /// The commit that was built.
    pub source_revision: Option<String>,
    /// The release that a rollback makes it from.
    pub copy_of: Option<Uuid>,
    /// Digest of its manifest in the server's registry, where it came through that.
    pub pushed: Option<String>,
}

impl NewRelease {
    /// The same content once more.
    pub fn again(release: &Release) -> Self {
        Self {
            image: release.image.clone(),
            inputs_digest: release.inputs_digest.clone(),
            manifest: release.manifest.0.clone(),
            folder: release.folder.clone(),
            spec: release.spec.as_ref().map(|spec| spec.0.clone()).unwrap_or_default(),
            source_revision: release.source_revision.clone(),
            copy_of: None,
            pushed: release.pushed.clone(),
        }
    }
}

const COLUMNS: &str =
    "id, agent_id, version, image, inputs_digest, manifest, folder, secret_set, spec, source_revision, pushed";

/// Agents and the images that are kept for them; `$1`: how many of those that served.
const KEPT: &str = "
    SELECT agent_id, image FROM (
      SELECT r.agent_id, r.image, row_number() OVER (PARTITION BY r.agent_id ORDER BY max(r.version) DESC) AS place
      FROM releases r WHERE EXISTS (SELECT FROM rollouts o WHERE o.release_id = r.id AND o.state = 'succeeded')
      GROUP BY r.agent_id, r.image) served
    WHERE place <= $1
    UNION
    SELECT r.agent_id, r.image FROM agents a JOIN releases r ON r.id IN (a.serving_release, a.standby_release)
    UNION
    SELECT r.agent_id, r.image FROM rollouts o JOIN releases r ON r.id = o.release_id WHERE o.state = 'running'";

impl Store {
    /// The release of that id.
    pub async fn find_release(&self, id: Uuid) -> Result<Option<Release>, StoreError> {
        find(&mut *self.pool().acquire().await?, id).await
    }

    /// The agent's release of that number.
    pub async fn find_version(&self, agent: Uuid, version: i32) -> Result<Option<Release>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM releases WHERE agent_id = $1 AND version = $2");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(agent).bind(version).fetch_optional(self.pool()).await?)
    }

    /// The release that the agent's release of that number is a copy of.
    pub async fn find_original(&self, agent: Uuid, version: i32) -> Result<Option<Release>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM releases WHERE id = (SELECT copy_of FROM releases WHERE agent_id = $1 AND version = $2)"
        );
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(agent).bind(version).fetch_optional(self.pool()).await?)
    }

    /// The release that served last before the one that serves now, and is not the same by another number.
    pub async fn find_previous(&self, agent: Uuid, serving: &Release) -> Result<Option<Release>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM releases WHERE id = (
               SELECT r.id FROM rollouts o JOIN releases r ON r.id = o.release_id
               WHERE o.agent_id = $1 AND o.state = 'succeeded' AND r.version < $2
                 AND (r.image, r.inputs_digest, r.secret_set) IS DISTINCT FROM ($3, $4, $5)
               ORDER BY r.version DESC LIMIT 1)"
        );
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(agent)
            .bind(serving.version)
            .bind(&serving.image)
            .bind(&serving.inputs_digest)
            .bind(serving.secret_set)
            .fetch_optional(self.pool())
            .await?)
    }

    /// Ids of the images that an agent's replicas may be started from: of what serves, is on standby or under
    /// way, and of the `newest` that served last.
    pub async fn list_kept_images(&self, agent: Uuid, newest: i64) -> Result<Vec<String>, StoreError> {
        let sql = format!("SELECT DISTINCT image FROM ({KEPT}) kept WHERE agent_id = $2");
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(newest).bind(agent).fetch_all(self.pool()).await?)
    }

    /// Digests of the manifests in the server's registry that those images of all agents came by.
    pub async fn list_pushed(&self, newest: i64) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "SELECT DISTINCT r.pushed FROM ({KEPT}) kept JOIN releases r USING (agent_id, image) WHERE r.pushed IS NOT NULL"
        );
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(newest).fetch_all(self.pool()).await?)
    }

    /// The newest release that is made from that manifest of the server's registry: agent and number.
    pub async fn find_release_of_pushed(&self, digest: &str) -> Result<Option<(String, i32)>, StoreError> {
        let sql = "SELECT a.name, r.version FROM releases r JOIN agents a ON a.id = r.agent_id
                   WHERE r.pushed = $1 ORDER BY r.id DESC LIMIT 1";
        Ok(sqlx::query_as(sql).bind(digest).fetch_optional(self.pool()).await?)
    }

    /// Keeps what the release's replicas said of their graphs.
    pub async fn set_describe(&self, release: Uuid, describe: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE releases SET describe = $2::json WHERE id = $1")
            .bind(release)
            .bind(describe)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

pub(super) async fn find(connection: &mut sqlx::PgConnection, id: Uuid) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?)
}

/// Adds the agent's next release inside a transaction, with the number of its secret set and the names in it. The
/// agent's row is locked by it.
pub(super) async fn insert(
    connection: &mut sqlx::PgConnection,
    id: Uuid,
    agent: Uuid,
    new: &NewRelease,
    (secret_set, secret_names): (i32, &[String]),
) -> Result<Release, StoreError> {
    let version: i32 =
        sqlx::query_scalar("UPDATE agents SET last_version = last_version + 1 WHERE id = $1 RETURNING last_version")
            .bind(agent)
            .fetch_one(&mut *connection)
            .await?;
    let sql = format!(
        "INSERT INTO releases (id, agent_id, version, image, inputs_digest, manifest, folder, secret_names, source_revision, copy_of, pushed, secret_set, spec)
         VALUES ($1, $2, $3, $4, $5, $6::json, $7, $8, $9, $10, $11, $12, $13::json) RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(agent)
        .bind(version)
        .bind(&new.image)
        .bind(&new.inputs_digest)
        // As text: on its way as jsonb it would lose its order.
        .bind(new.manifest.to_string())
        .bind(&new.folder)
        .bind(secret_names)
        .bind(&new.source_revision)
        .bind(new.copy_of)
        .bind(&new.pushed)
        .bind(secret_set)
        .bind(new.spec.to_string())
        .fetch_one(connection)
        .await?)
}
