//! The `inventory` upstream: stock of a small shop, changed by reservations that take a moment.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    server::{Progress, Upstream},
    tools::{Arguments, Effect, Need, Outcome, Tool},
};

/// How long picking one shelf takes, so that progress can be watched.
const PICKING: Duration = Duration::from_millis(100);

/// Units that one shelf holds.
const SHELF: u32 = 5;

/// Largest quantity one reservation may ask for.
const MOST: u32 = 50;

#[derive(Debug)]
struct Item {
    sku: &'static str,
    name: &'static str,
    in_stock: u32,
    reserved: u32,
    /// Below this, it should be ordered again.
    reorder_at: u32,
}

/// The shop's stock, in memory.
#[derive(Debug)]
pub(super) struct Inventory(Mutex<Vec<Item>>);

impl Default for Inventory {
    fn default() -> Self {
        let item = |sku, name, in_stock, reorder_at| Item { sku, name, in_stock, reserved: 0, reorder_at };
        Self(Mutex::new(vec![
            item("LMP-01", "Desk lamp", 42, 10),
            item("CHR-07", "Office chair", 6, 8),
            item("DSK-03", "Standing desk", 3, 2),
            item("CBL-20", "USB-C cable, 2 m", 180, 50),
            item("MON-27", "27-inch monitor", 11, 12),
            item("KBD-11", "Mechanical keyboard", 25, 5),
        ]))
    }
}

impl Upstream for Inventory {
    fn name(&self) -> &'static str {
        "inventory"
    }

    fn instructions(&self) -> &'static str {
        "Stock of a small shop. Items are named by SKU, such as LMP-01; low_stock lists what should be ordered."
    }

    fn tools(&self) -> Vec<Tool> {
        let sku = || json!({"type": "string", "description": "Stock keeping unit, such as LMP-01"});
        vec![
            Tool {
                name: "stock_level",
                title: "Stock level of an item",
                description: "Tells how many units of an item are in stock, reserved and free.",
                arguments: vec![("sku", sku(), Need::Required)],
                effect: Effect::ReadsOnly,
            },
            Tool {
                name: "reserve_item",
                title: "Reserve units of an item",
                description: "Picks units from the shelves and reserves them, all or nothing. Reports progress.",
                arguments: vec![
                    ("sku", sku(), Need::Required),
                    ("quantity", json!({"type": "integer", "minimum": 1, "maximum": MOST, "default": 1}), Need::Optional),
                ],
                effect: Effect::Changes,
            },
            Tool {
                name: "low_stock",
                title: "Items to order",
                description: "Lists items whose free units are below their own reorder level, or below a given threshold.",
                arguments: vec![("threshold", json!({"type": "integer", "minimum": 0, "maximum": 100_000}), Need::Optional)],
                effect: Effect::ReadsOnly,
            },
        ]
    }

    async fn call(&self, tool: &str, arguments: Arguments<'_>, progress: &Progress) -> Outcome {
        match tool {
            "stock_level" => self.with(arguments.text("sku")?, |item| Ok(item.to_json())),
            "reserve_item" => self.reserve(arguments.text("sku")?, arguments.number("quantity", 1, MOST)?.unwrap_or(1), progress).await,
            _ => Ok(self.low_stock(arguments.number("threshold", 0, 100_000)?)),
        }
    }
}

impl Inventory {
    /// Picks shelf by shelf and books at the end: a call that is cancelled half-way reserves nothing.
    async fn reserve(&self, sku: &str, quantity: u32, progress: &Progress) -> Outcome {
        self.with(sku, |item| item.can_give(quantity))?;
        let mut picked = 0;
        while picked < quantity {
            tokio::time::sleep(PICKING).await;
            picked = (picked + SHELF).min(quantity);
            progress.report(picked, quantity, format!("picked {picked} of {quantity}")).await;
        }
        // Somebody else may have been quicker.
        self.with(sku, |item| {
            item.can_give(quantity)?;
            item.reserved += quantity;
            Ok(item.to_json())
        })
    }

    fn low_stock(&self, threshold: Option<u32>) -> Value {
        let items = self.0.lock();
        let low = items.iter().filter(|item| item.free() < threshold.unwrap_or(item.reorder_at));
        json!({"items": low.map(Item::to_json).collect::<Vec<_>>()})
    }

    fn with<T>(&self, sku: &str, act: impl FnOnce(&mut Item) -> Result<T, String>) -> Result<T, String> {
        let mut items = self.0.lock();
        if let Some(item) = items.iter_mut().find(|item| item.sku.eq_ignore_ascii_case(sku)) {
            return act(item);
        }
        let known: Vec<&str> = items.iter().map(|item| item.sku).collect();
        Err(format!("there is no item \"{sku}\"; the SKUs are {}", known.join(", ")))
    }
}

impl Item {
    fn free(&self) -> u32 {
        self.in_stock.saturating_sub(self.reserved)
    }

    fn can_give(&self, quantity: u32) -> Result<(), String> {
        if self.free() < quantity { Err(format!("only {} of {} are free", self.free(), self.sku)) } else { Ok(()) }
    }

    fn to_json(&self) -> Value {
        json!({
            "sku": self.sku,
            "name": self.name,
            "in_stock": self.in_stock,
            "reserved": self.reserved,
            "free": self.free(),
            "reorder_at": self.reorder_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reservation_takes_all_or_nothing() {
        let shop = Inventory::default();
        let reserved = shop.reserve("dsk-03", 3, &Progress::none()).await.expect("three are there");
        assert_eq!((&reserved["reserved"], &reserved["free"]), (&json!(3), &json!(0)));
        assert_eq!(shop.reserve("DSK-03", 1, &Progress::none()).await, Err("only 0 of DSK-03 are free".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_who_want_the_last_units_one_gets_them() {
        let shop = Inventory::default();
        let none = Progress::none();
        let (first, second) = tokio::join!(shop.reserve("CHR-07", 4, &none), shop.reserve("CHR-07", 4, &none));
        assert_ne!(first.is_ok(), second.is_ok());
    }

    #[test]
    fn low_stock_follows_each_items_own_level_unless_told_otherwise() {
        let skus = |report: Value| report["items"].as_array().expect("a list").iter().map(|i| i["sku"].clone()).collect::<Vec<_>>();
        assert_eq!(skus(Inventory::default().low_stock(None)), ["CHR-07", "MON-27"]);
        assert_eq!(skus(Inventory::default().low_stock(Some(4))), ["DSK-03"]);
    }
}
