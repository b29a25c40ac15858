// The theme and the language that were chosen, before the first paint; hence no module.
(() => {
  let saved = null;
  try {
    saved = JSON.parse(localStorage.getItem("binhdan.settings"));
  } catch {
    // Nothing was chosen, or the browser keeps nothing.
  }
  const root = document.documentElement;
  if (saved?.theme === "light" || saved?.theme === "dark") root.dataset.theme = saved.theme;
  if (saved?.language === "en") root.lang = "en";
})();
