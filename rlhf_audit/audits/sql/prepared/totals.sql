/* How often each item was judged, and how: `ratings` has the same beside each label.

item
m         raters who judged it
total     sum of their labels */
SELECT item, count(*) AS m, sum(value ORDER BY value) AS total
FROM labels
GROUP BY item
