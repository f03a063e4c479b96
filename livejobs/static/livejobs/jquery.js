// The page's jQuery. If the page brings none, or its CDN refuses, fails or lets us wait, then Django's own copy; the CDN's
// if the project has no admin.
import { config } from "./config.js";

const PATIENCE = 2000; // milliseconds

const cdn = document.getElementById("jquery");

function settled(script) {
  return new Promise((resolve) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", resolve);
  });
}

if (!window.jQuery && cdn && !cdn.dataset.failed) {
  await Promise.race([settled(cdn), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
}
if (!window.jQuery) {
  const copy = document.createElement("script");
  copy.src = cdn?.dataset.fallback ?? config.jquery;
  if (!cdn && config.jqueryIntegrity)
    Object.assign(copy, { integrity: config.jqueryIntegrity, crossOrigin: "anonymous" });
  document.head.append(copy);
  await settled(copy);
}

export default window.jQuery;
