//! <https://dcb.events/examples/dynamic-product-price>: an order is made at the displayed prices,
//! if they are still valid. After a change, the earlier price is valid for a while. The boundary is
//! as wide as the order: the prices of all products in it.

use super::*;

struct Shop {
    store: Store,
    clock: Clock,
    /// How long after a change the earlier price is valid.
    grace: i64,
}

/// A product, and its displayed price.
type Item = (&'static str, u64);

fn tag(product: &str) -> String {
    format!("product:{product}")
}

const PRICING: [&str; 2] = ["ProductDefined", "ProductPriceChanged"];

/// The events that set the price of any of these products.
fn pricing(items: &[Item]) -> Query {
    // Not `or` before the first one: it would begin a second item beside an empty one, which
    // matches everything.
    let (first, rest) = items.split_first().expect("an order has items");
    let query = Query::new().types(PRICING).tag(tag(first.0));
    rest.iter().fold(query, |query, item| query.or().types(PRICING).tag(tag(item.0)))
}

impl Shop {
    fn new(grace: i64) -> Shop {
        let clock = Clock::default();
        Shop { store: clock.store(), clock, grace }
    }

    fn set_price(&self, event_type: &'static str, product: &str, price: u64) {
        let event = NewEvent::bincode(event_type, &price).unwrap().tag(tag(product));
        self.store.append(&stream("product", product), Expected::Any, [event]).unwrap();
    }

    fn define(&self, product: &str, price: u64) {
        self.set_price("ProductDefined", product, price);
    }

    fn change(&self, product: &str, price: u64) {
        self.set_price("ProductPriceChanged", product, price);
    }

    /// The current price, and those that were current within the grace period.
    fn valid_prices(&self, events: &[Event], product: &str) -> Vec<u64> {
        let events = events.iter().filter(|event| has_tag(event, &tag(product)));
        events.fold(Vec::new(), |mut prices, event| {
            if self.clock.since(event.recorded_at()) >= self.grace {
                prices.clear();
            }
            prices.push(event.decode().unwrap());
            prices
        })
    }

    fn order(&self, order: &str, items: &[Item]) -> Result<Committed, Refusal> {
        decide(&self.store, &stream("order", order), &pricing(items), |events| {
            let counts = |&(product, price): &Item| self.valid_prices(events, product).contains(&price);
            if !items.iter().all(counts) {
                return Err("price is no longer valid");
            }
            let event = NewEvent::bincode("ProductsOrdered", &items).unwrap();
            Ok(event.tags(items.iter().map(|item| tag(item.0))))
        })
    }
}

#[test]
fn an_order_is_made_at_the_price_of_the_product() {
    let shop = Shop::new(10 * MINUTE);
    shop.define("p1", 123);
    shop.clock.pass(20 * MINUTE);
    assert_eq!(shop.order("1", &[("p1", 100)]), Err("price is no longer valid"));
    assert_eq!(shop.order("1", &[("p2", 123)]), Err("price is no longer valid"));
    shop.order("1", &[("p1", 123)]).unwrap();
}

#[test]
fn a_changed_price_counts_at_once_and_the_old_one_for_a_while() {
    let shop = Shop::new(10 * MINUTE);
    shop.define("p1", 123);
    shop.clock.pass(11 * MINUTE);
    shop.change("p1", 134);
    shop.order("1", &[("p1", 134)]).unwrap();
    shop.clock.pass(9 * MINUTE);
    shop.order("2", &[("p1", 123)]).unwrap();
    shop.change("p1", 145);
    shop.clock.pass(2 * MINUTE);
    assert_eq!(shop.order("3", &[("p1", 123)]), Err("price is no longer valid"));
    shop.order("3", &[("p1", 134)]).unwrap();
    shop.order("4", &[("p1", 145)]).unwrap();
}

#[test]
fn an_order_of_several_products_needs_all_prices_to_count() {
    let shop = Shop::new(10 * MINUTE);
    shop.define("p1", 123);
    shop.clock.pass(11 * MINUTE);
    shop.change("p1", 134);
    shop.clock.pass(MINUTE);
    shop.define("p2", 321);
    let committed = shop.order("1", &[("p1", 123), ("p2", 321)]).unwrap();
    assert_eq!(shop.order("2", &[("p1", 123), ("p2", 320)]), Err("price is no longer valid"));
    let of_both = find(&shop.store, &Query::new().event_type("ProductsOrdered").tags([tag("p1"), tag("p2")]));
    assert_eq!(of_both.iter().map(Event::position).collect::<Vec<_>>(), [committed.positions.start]);
}

/// Without grace an order must have the very prices that were current at its position in the log.
#[test]
fn no_order_that_races_with_changes_is_made_at_an_old_price() {
    const PRICES: u64 = 300;
    const ORDERS: u64 = 300;
    let shop = Shop::new(0);
    shop.define("p1", 0);
    shop.define("p2", 0);
    race(4, |number| match number {
        0 => (1..=PRICES).for_each(|price| shop.change("p1", price)),
        1 => (1..=PRICES).for_each(|price| shop.change("p2", price)),
        _ => {
            for order in 0..ORDERS {
                let displayed = || {
                    let events = find(&shop.store, &pricing(&[("p1", 0), ("p2", 0)]));
                    ["p1", "p2"].map(|product| (product, shop.valid_prices(&events, product)[0]))
                };
                // A customer whose order was refused looks again.
                while shop.order(&format!("{number}-{order}"), &displayed()).is_err() {}
            }
        }
    });

    let mut in_force = [0, 0];
    let mut orders = 0;
    for event in find(&shop.store, &Query::new()) {
        match event.event_type() {
            "ProductsOrdered" => {
                orders += 1;
                let [p1, p2]: [(String, u64); 2] = event.decode::<Vec<_>>().unwrap().try_into().unwrap();
                assert_eq!([p1.1, p2.1], in_force, "at {}", event.position());
            }
            _ => in_force[usize::from(has_tag(&event, "product:p2"))] = event.decode().unwrap(),
        }
    }
    assert_eq!((orders, in_force), (2 * ORDERS, [PRICES, PRICES]));
}
