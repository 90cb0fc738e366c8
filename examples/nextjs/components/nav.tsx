"use client";

import Link from "next/link";
import { usePathname } from "next/navigation";

const PAGES = { "/": "Personalise", "/try-on": "Try on", "/contours": "Contours", "/faces": "Compare faces" };

export function Nav() {
  const here = usePathname();
  return (
    <nav aria-label="Pages">
      {Object.entries(PAGES).map(([path, words]) => (
        <Link key={path} href={path} aria-current={path === here ? "page" : undefined}>
          {words}
        </Link>
      ))}
    </nav>
  );
}
