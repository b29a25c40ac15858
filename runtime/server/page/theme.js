// Applies the saved theme and language before the first paint. Not a module, because modules load later.
(() => {
  let saved = null;
  try {
    saved = JSON.parse(localStorage.getItem("binhdan.settings"));
  } catch {
    // No saved settings, or no access to the storage.
  }
  const root = document.documentElement;
  if (saved?.theme === "light" || saved?.theme === "dark") root.dataset.theme = saved.theme;
  if (saved?.language === "en") root.lang = "en";
})();
