// jQuery from its CDN, or Django's own copy where the CDN refuses, fails, or lets us wait.
const PATIENCE = 2000; // milliseconds

const cdn = document.getElementById("jquery");

function settled(script) {
  return new Promise((resolve) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", resolve);
  });
}

if (!window.jQuery && !cdn.dataset.failed) {
  await Promise.race([settled(cdn), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
}
if (!window.jQuery) {
  const copy = document.createElement("script");
  copy.src = cdn.dataset.fallback;
  document.head.append(copy);
  await settled(copy);
}

export default window.jQuery;
