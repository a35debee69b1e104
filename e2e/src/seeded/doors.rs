//! What is done at the doors: the same again, something else under the same key, an order that cannot be stored.

use super::scene::Scene;
use crate::Spec;

pub(super) async fn repeated() -> Scene {
    let mut scene = Scene::new().await;
    let spec = Spec::of(1);
    let first = scene.sell(&spec).await;
    let again = scene.sell(&spec).await;
    let other = Spec::of(7).key(&spec.key);
    if let Ok(answer) = scene.world.send(&other).await {
        scene.told(&other, &answer.into_inner());
    }
    scene.ends(&first).await;
    scene.ends(&again).await;
    scene
}

pub(super) async fn start_refused() -> Scene {
    let mut scene = Scene::new().await;
    let role = orchestrator::SCHEMA.role;
    scene.run(&format!("revoke insert on orchestrator.saga from {role}")).await;
    let spec = Spec::of(1);
    if let Ok(answer) = scene.world.send(&spec).await {
        scene.told(&spec, &answer.into_inner());
    }
    scene.run(&format!("grant insert on orchestrator.saga to {role}")).await;
    scene
}
