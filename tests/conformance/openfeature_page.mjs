// Evaluates flags in a browser with the published OpenFeature web SDK and provider. Its query names the server.
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";

const baseUrl = new URLSearchParams(location.search).get("server");
const context = { targetingKey: "dev-1", product: "iPhone", query: "shoes", channel: "email" };
const seen = ({ value, reason, errorCode }) => [value, reason, errorCode ?? null];

await OpenFeature.setContext(context);
await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl, pollInterval: 200 }));
const client = OpenFeature.getClient();
window.changed = [];
client.addHandler(ProviderEvents.ConfigurationChanged, (event) => window.changed.push(...event.flagsChanged));
window.look = () => ({
  "on": seen(client.getBooleanDetails("RatingBox", false)),
  "off": seen(client.getBooleanDetails("NewCheckout", true)),
  "button": seen(client.getStringDetails("RatingBox.actionButton", "?")),
  "unknown": seen(client.getStringDetails("Nothing", "?")),
});
