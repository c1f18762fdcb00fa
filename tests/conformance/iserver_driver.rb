# Uses a generated client the way a shop would, and prints what it saw. Arguments: a device that has the old checkout,
# and one that has the new one; CAUSAL_ISERVER is set.
require_relative "client"

session = Causal::Session.create(device_id: ARGV[0], channel: "email")
box = Causal::RatingBox.new(product: "Café ☃")
checkout = Causal::NewCheckout.new
search = Causal::Search.new(query: "ext")
session.request(box, checkout, search, impression_id: "imp-1")
puts "box #{box.active?} #{box.action_button} #{box.product}"
puts "checkout #{checkout.active?} #{session.feature_active?("NewCheckout")}"
puts "search #{search.active?} #{search.results_external?} #{!!search.results_set?}"
puts "session #{session.environment} #{session.tier} #{session.user_agent}"

search.results = [Causal::Doc.new(id: "a", title: "A", score: 0.5)]
again = Causal::Search.new(query: "ext")
session.request(again, impression_id: "imp-2")
puts "again #{again.impression_count} #{again.results.map(&:title).join}"

box.signal_rating(stars: 4)
search.signal_click(id: "a")
session.signal_add_to_cart(value: 9.5, sku: "s1")
session.user_id = "u-7"
Causal::RatingBox.signal_rating(session: session, impression_id: "imp-9", stars: 1)
Causal::RatingBox.signal_rating(session: Causal::Session.from_device_id("nobody"), impression_id: "imp-1", stars: 1)

customer = Causal::Session.from_device_id(ARGV[1])
bought = Causal::NewCheckout.new
customer.request(bought, impression_id: "imp-1")
customer.signal_abstract_revenue(impression_id: "imp-1", value: 20.5)
puts "bought #{bought.active?}"

begin
  wrong = Causal::RatingBox.new(product: 7)
  session.request(wrong, Causal::ProductInfo.new)
rescue StandardError => error
  puts "wrong #{error.message}: #{wrong.call_to_action}"
end
