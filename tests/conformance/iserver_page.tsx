// A shop's page that uses a generated client in the browser. Its query names the iserver, the device, and
// optionally what to do when the page is left: "signal", or "show" a feature from the client's cache.
import { createElement as h } from "react";
import { createRoot } from "react-dom/client";
import { initCausal, qb, Session, SessionContext, useImpression } from "./client";

const query = new URLSearchParams(location.search);
initCausal({ baseUrl: query.get("iserver")!, timeoutMs: 15_000 });
const session = new Session({ deviceId: query.get("device")!, channel: "email" });
const features = qb().getRatingBox({ product: "iPhone" }).getNewCheckout();

function Shop() {
  const { impression, loading, error } = useImpression(features);
  if (loading) return h("p", { id: "waiting" }, "one moment");
  const { RatingBox: box, NewCheckout: checkout } = impression;
  return h("main", {},
    box && h("h1", {}, box.callToAction),
    box && h("button", { onClick: () => box.signalRating({ stars: 5 }) }, box.actionButton),
    h("p", { id: "checkout" }, checkout ? "new" : "old"),
    h("p", { id: "variants" }, session.activeVariants.map((item) => item.variantName).join(" ")),
    error && h("p", { id: "error" }, JSON.stringify(error)));
}

const onLeaving: Record<string, () => void> = {
  signal() {
    session.signalAddToCart({ value: 9.5, sku: "s1", qty: 2 });
    session.keepAlive();
  },
  show() {
    void session.requestImpression(features, "imp-leaving");
  },
};
addEventListener("pagehide", () => onLeaving[query.get("leaving") ?? ""]?.());

createRoot(document.getElementById("shop")!).render(h(SessionContext.Provider, { value: session }, h(Shop)));
